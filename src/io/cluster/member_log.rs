//! What happens among the members of a cluster, in the log.

use crate::membership::event::MemberEvent;

/// A line for an event.
pub(super) fn log_member(event: &MemberEvent) {
    let (member, what) = match event {
        MemberEvent::Up(event) => (&event.member, "is up"),
        MemberEvent::Left(event) => (&event.member, "has left"),
        MemberEvent::Down(event) => (&event.member, "is down"),
        MemberEvent::Unreachable(event) => (&event.member, "cannot be reached"),
        MemberEvent::Reachable(event) => (&event.member, "can be reached again"),
    };
    let (node, incarnation, address) = (member.node, member.incarnation, member.address);
    tracing::info!(%node, %incarnation, %address, "a member {what}");
}
