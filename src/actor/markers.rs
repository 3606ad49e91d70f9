//! The markers by which a core learns that all it has sent down an old route has reached its shard.
//!
//! A marker goes like a message for its shard, from past owner to past owner, in order with everything else. Where the shard
//! runs it turns round, and goes straight back to the core that sent it.

use super::carried::Carried;
use super::link::Waiting;
use super::local::Local;
use super::refusal::Rejection;
use crate::base::ids::{CoreId, EntityTypeId, Epoch, NodeId, ShardId, ShardKey};
use crate::wire::address::{Life, Target};
use crate::wire::frame::{FrameRef, OwnedFrame};
use crate::wire::handoff::LastMarker;
use crate::wire::header::Header;
use crate::wire::kind::{Kind, Plane};
use crate::wire::limits::FrameLimits;
use crate::wire::writer::FrameWriter;

impl Local {
    /// Sends the marker `token` to the past owner of a shard, which had it in this epoch, behind everything of a stream that was
    /// sent there. It may get lost.
    pub(crate) fn send_marker(
        &mut self,
        via: NodeId,
        shard: ShardKey,
        epoch: Epoch,
        (stream, token): (CoreId, u64),
    ) {
        let marker = LastMarker {
            token,
            core: self.core,
            stream,
            members: self.topology.members_version(),
            has_passed: false,
        };
        if let Some(entity_type) = self.topology.number_in_cluster(shard.entity_type) {
            let key = ShardKey {
                entity_type,
                ..shard
            };
            let header = self.header(Kind::Last, Target::Shard { key, epoch });
            self.send_content(via, &header, &marker.encode());
        }
    }

    /// Sends a frame of the hand-off, which may get lost. Whether it was written.
    pub(crate) fn send_content(&mut self, to: NodeId, header: &Header, content: &[u8]) -> bool {
        let link = (self.remote.as_mut()).and_then(|it| it.link(to, None));
        if let Some(link) = link
            && let Ok(length) = link.writer.write_bytes(header, &[], content)
        {
            link.wrote(length, Waiting::Notice);
            self.count_written(length);
            return true;
        }
        false
    }

    /// Takes a marker that has come over a connection.
    pub(super) fn take_last(&mut self, frame: FrameRef<'_>, by: Life) {
        match LastMarker::decode(frame.payload().bytes()) {
            Ok(marker) if marker.has_passed => self.marker_came_back(frame, marker),
            Ok(marker) if self.knows_less(marker) => {}
            Ok(_) => self.take_request(&frame, by),
            Err(_) => self.senseless(&frame, "a marker that makes no sense"),
        }
    }

    /// Whether the sender of a marker may know of a death of which this core does not.
    fn knows_less(&self, marker: LastMarker) -> bool {
        marker.members > self.topology.members_version()
    }

    /// Whether it is a marker that a core of this node has sent.
    pub(super) fn is_own_marker(&self, header: &Header) -> bool {
        let life = self.remote.as_ref().map(|remote| remote.life);
        header.kind == Kind::Last && life == Some(header.sender.life)
    }

    /// The core of this node that has a shard of this node.
    pub(super) fn host_of(&self, key: ShardKey) -> Option<CoreId> {
        let placement = self.topology.placement(key).map(|it| it.owner);
        placement.filter(|_| self.topology.is_mine(key))
    }

    /// Takes a frame that this core was handed by another, to which it had come.
    pub(super) fn take_carried(&mut self, mut carried: Box<Carried>) {
        let passed_by = carried.goes_home_from.take();
        carried.by_core = passed_by.is_none();
        if passed_by.is_some_and(|life| self.topology.is_dead(life.node, life.incarnation)) {
            // As from a connection: what this core has answered relies upon that nothing more comes.
            if let Some(remote) = &mut self.remote {
                remote.stats.of_the_dead += 1;
            }
            let frame = carried.frame();
            let number = self
                .shard_of_frame(&frame)
                .map(|(shard, _)| shard.entity_type.0);
            return self.refuse_frame(number, &frame, Rejection::LinkLost);
        }
        let frame = carried.frame();
        match frame.kind() {
            Kind::Shipment => self.take_shipment(frame),
            Kind::Last => match LastMarker::decode(frame.payload().bytes()) {
                Ok(marker) if marker.has_passed => self.marker_came_back(frame, marker),
                Ok(marker) if self.knows_less(marker) => {}
                _ => self.take_carried_request(carried),
            },
            _ => self.take_carried_request(carried),
        }
    }

    /// Takes a part of a shard, or word of one; the engine of the core where the shard is, or will be, acts upon it.
    pub(super) fn take_shipment(&mut self, frame: FrameRef<'_>) {
        let Some((shard, _)) = self.shard_of_frame(&frame) else {
            return self.senseless(&frame, "part of a shard that this node does not know");
        };
        let host = self.topology.placement(shard).map(|it| it.owner);
        match host {
            Some(core) if core == self.core => self.shipments.push(frame.detach()),
            // If there is no room, it comes again.
            Some(core) => self.carry(core, shard.entity_type.0, frame),
            None => self.senseless(&frame, "part of a shard that its type does not have"),
        }
    }

    /// The shard that a frame is for, as this node numbers its type, and the epoch that its sender knew.
    pub(crate) fn shard_of_frame(&self, frame: &FrameRef<'_>) -> Option<(ShardKey, Epoch)> {
        let Target::Shard { key, epoch } = frame.header().target else {
            return None;
        };
        let entity_type = self.topology.type_of_number(key.entity_type)?;
        Some((ShardKey { entity_type, ..key }, epoch))
    }

    fn marker_came_back(&mut self, frame: FrameRef<'_>, marker: LastMarker) {
        let Some((shard, _)) = self.shard_of_frame(&frame) else {
            return self.senseless(&frame, "a marker for a shard that this node does not know");
        };
        if marker.core == self.core {
            self.passed.push((shard, marker.token));
        } else if marker.core.index() < self.port.cores() {
            self.carry(marker.core, shard.entity_type.0, frame);
        }
    }

    /// A marker has reached its shard, which is here: so has all that was before it, and its sender hears of that.
    pub(super) fn marker_arrived(&mut self, number: u16, shard: ShardId, frame: FrameRef<'_>) {
        let (Ok(marker), Target::Shard { key, .. }) = (
            LastMarker::decode(frame.payload().bytes()),
            frame.header().target,
        ) else {
            return self.senseless(&frame, "a marker that makes no sense");
        };
        let here = ShardKey {
            entity_type: EntityTypeId(number),
            shard,
        };
        let back = LastMarker {
            has_passed: true,
            ..marker
        };
        let epoch = self.topology.owner(here).map(|owner| owner.epoch);
        let epoch = epoch.unwrap_or_default();
        let header = self.header(Kind::Last, Target::Shard { key, epoch });
        let from = frame.header().sender.life;
        if self.remote.as_ref().is_none_or(|it| it.life != from) {
            // Another life of that node may have given the same token to a marker of its own.
            let remote = self.remote.as_mut();
            if remote.is_some_and(|it| it.link(from.node, Some(from)).is_some()) {
                self.send_content(from.node, &header, &back.encode());
            }
        } else if marker.core == self.core {
            self.passed.push((here, marker.token));
        } else if marker.core.index() < self.port.cores() {
            self.carry_content(marker.core, number, &header, &back.encode());
        }
    }

    /// Hands a frame of this node's own to another core of it.
    fn carry_content(&mut self, to: CoreId, number: u16, header: &Header, content: &[u8]) {
        let mut writer = FrameWriter::new(FrameLimits::default());
        if writer.write_bytes(header, &[], content).is_ok()
            && let Ok(frame) = FrameRef::parse(writer.pending(), Plane::Data, FrameLimits::MOST)
        {
            self.carry(to, number, frame);
        }
    }
}

/// Frames of shipments that have come, for the engine.
pub(crate) type Shipments = Vec<OwnedFrame>;
