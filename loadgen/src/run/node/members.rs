//! What happens among the members of the cluster, as this node says it.

use corecast::{
    ClusterChanged, ClusterView, Event, Handle, Member, MemberDown, MemberLeft, MemberUp,
    ReachableMember, UnreachableMember,
};

use super::mouth::Mouth;
use crate::cluster::protocol::{EventNews, MemberEventKind, News, ViewNews};
use crate::run::clock::Clock;
use crate::run::error::RunError;
use crate::run::stage::Stage;

/// Member events and views that wait to be said.
const EVENTS: usize = 10_000;

/// Says what happens among the members, and what the node knows of them, from now on.
pub(super) fn watch_members(stage: &Stage, mouth: &Mouth) -> Result<(), RunError> {
    let cluster = stage.handle.cluster();
    let cluster = cluster.ok_or_else(|| RunError::Node("this is no cluster".to_owned()))?;
    let (handle, clock) = (&stage.handle, stage.clock);
    tell::<MemberUp>(handle, clock, mouth, MemberEventKind::Up, |e| &e.member)?;
    tell::<MemberLeft>(handle, clock, mouth, MemberEventKind::Left, |e| &e.member)?;
    tell::<MemberDown>(handle, clock, mouth, MemberEventKind::Down, |e| &e.member)?;
    let (gone, back) = (MemberEventKind::Unreachable, MemberEventKind::Reachable);
    tell::<UnreachableMember>(handle, clock, mouth, gone, |e| &e.member)?;
    tell::<ReachableMember>(handle, clock, mouth, back, |e| &e.member)?;
    let changes = cluster
        .changes(EVENTS)
        .map_err(|error| RunError::Node(error.to_string()))?;
    mouth.say(&News::View(view(&cluster.state())));
    let mouth = mouth.clone();
    thread("views", move || {
        for ClusterChanged(changed) in changes {
            mouth.say(&News::View(view(&changed)));
        }
    })
}

fn tell<E: Event>(
    handle: &Handle,
    clock: Clock,
    mouth: &Mouth,
    what: MemberEventKind,
    member: fn(&E) -> &Member,
) -> Result<(), RunError> {
    let events = handle
        .events::<E>(EVENTS)
        .map_err(|error| RunError::Node(error.to_string()))?;
    let mouth = mouth.clone();
    thread("events", move || {
        for event in events {
            let member = member(&event);
            mouth.say(&News::Event(EventNews {
                at_ns: clock.now().as_nanos(),
                what,
                node: member.node.0,
                by: member.unreachable_by.iter().map(|node| node.0).collect(),
            }));
        }
    })
}

fn view(view: &ClusterView) -> ViewNews {
    use corecast::ClusterPhase;
    ViewNews {
        life: match &view.phase {
            ClusterPhase::Member(life) => Some(life.0),
            _ => None,
        },
        ended: view.end().map(ToString::to_string),
        up: view
            .up()
            .map(|member| (member.node.0, member.incarnation.0))
            .collect(),
        leader: view.leader.map_or(0, |leader| leader.0),
        quorum: view.has_quorum,
        obstacle: view.obstacle.as_ref().map(ToString::to_string),
    }
}

/// Starts a thread that ends with the process.
pub(super) fn thread(name: &str, work: impl FnOnce() + Send + 'static) -> Result<(), RunError> {
    let spawned = std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(work);
    spawned.map(drop).map_err(RunError::Thread)
}
