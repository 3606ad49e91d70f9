//! Messages and frames for tests.

use super::address::{Address, Life, Sender, Target};
use super::flags::Flags;
use super::header::Header;
use super::kind::{Content, Kind, Plane, Reason, Targets};
use super::limits::FrameLimits;
use super::message::{TypeTag, WireMessage};
use super::writer::FrameWriter;
use crate::base::ids::{CoreId, EntityTypeId, Epoch, Incarnation, NodeId, ShardId, ShardKey};
use proptest::prelude::*;
use std::time::Duration;

/// A message with pointers in it.
#[derive(Clone, Debug, PartialEq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub(crate) enum Note {
    Text { text: String, numbers: Vec<u64> },
    Wide(u128),
    Nothing,
}

impl WireMessage for Note {
    const NAME: &'static str = "test.Note";
    const VERSION: u16 = 2;
}

/// Another version of the same name.
#[derive(Clone, Debug, PartialEq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub(crate) struct NewNote(pub(crate) String);

impl WireMessage for NewNote {
    const NAME: &'static str = "test.Note";
    const VERSION: u16 = 3;
}

pub(crate) fn note(text: &str) -> Note {
    Note::Text {
        text: text.to_owned(),
        numbers: (0..text.len() as u64).collect(),
    }
}

pub(crate) fn shard() -> Target {
    Target::Shard {
        key: ShardKey {
            entity_type: EntityTypeId(0x0102),
            shard: ShardId(0x0304_0506),
        },
        epoch: Epoch(0x1112_1314_1516_1718),
    }
}

pub(crate) fn actor() -> Target {
    Target::Actor {
        incarnation: Incarnation(0x2122_2324),
        core: CoreId(0x2526),
        cell: 0x3132_3334_3536_3738,
    }
}

pub(crate) fn sender() -> Sender {
    Sender {
        life: Life::new(NodeId(0x4142_4344), Incarnation(0x4546_4748)),
        core: CoreId(0x5152),
        stream: 0x5354_5556,
    }
}

pub(crate) fn address() -> Address {
    Address {
        life: Life::new(NodeId(0x6162_6364), Incarnation(0x6566_6768)),
        core: CoreId(0x7172),
        table: 0x7374,
        place: 0x8182_8384_8586_8788,
    }
}

pub(crate) fn tell() -> Header {
    Header::new(Kind::Tell, shard(), sender())
}

/// A frame alone.
pub(crate) fn frame_of(header: &Header, id: &[u8], payload: &[u8]) -> Vec<u8> {
    let mut writer = FrameWriter::new(FrameLimits::default());
    writer.write_bytes(header, id, payload).unwrap();
    writer.pending().to_vec()
}

/// A frame alone with a message.
pub(crate) fn frame_with<M: WireMessage>(header: &Header, id: &[u8], message: M) -> Vec<u8> {
    let mut writer = FrameWriter::new(FrameLimits::default());
    writer.write(header, id, message).unwrap();
    writer.pending().to_vec()
}

/// A plane on which a kind travels.
pub(crate) fn plane_of(kind: Kind) -> Plane {
    kind.rules().plane.unwrap_or(Plane::Data)
}

fn life() -> impl Strategy<Value = Life> {
    (any::<u32>(), 1..u32::MAX).prop_map(|(node, life)| Life::new(NodeId(node), Incarnation(life)))
}

fn any_target(targets: Targets) -> BoxedStrategy<Target> {
    let shard =
        (any::<u16>(), any::<u32>(), any::<u64>()).prop_map(|(kind, shard, epoch)| Target::Shard {
            key: ShardKey {
                entity_type: EntityTypeId(kind),
                shard: ShardId(shard),
            },
            epoch: Epoch(epoch),
        });
    let actor = (any::<u32>(), any::<u16>(), any::<u64>()).prop_map(|(incarnation, core, cell)| {
        Target::Actor {
            incarnation: Incarnation(incarnation),
            core: CoreId(core),
            cell,
        }
    });
    match targets {
        Targets::Nobody => Just(Target::Node).boxed(),
        Targets::Shard => shard.boxed(),
        Targets::ShardOrNobody => prop_oneof![shard, Just(Target::Node)].boxed(),
        Targets::EntityOrActor => prop_oneof![shard, actor].boxed(),
    }
}

/// Header, entity id and payload of a frame of any kind that is as it should be.
pub(crate) fn any_frame(most: usize) -> impl Strategy<Value = (Header, Vec<u8>, Vec<u8>)> {
    prop::sample::select(Kind::ALL).prop_flat_map(move |kind| {
        let rules = kind.rules();
        let bytes = |most: usize| prop::collection::vec(any::<u8>(), 0..=most);
        let payload = match rules.content {
            Content::Nothing => bytes(0),
            Content::Message => bytes(most),
            Content::Opaque(own) => bytes(own.min(most)),
        };
        let tag = match rules.content {
            Content::Nothing => Just(TypeTag::NONE).boxed(),
            Content::Message => any_tag().boxed(),
            Content::Opaque(_) => prop_oneof![Just(TypeTag::NONE), any_tag()].boxed(),
        };
        let address = (life(), any::<(u16, u16, u64)>()).prop_map(move |(life, rest)| {
            rules.address.then_some(Address {
                life,
                core: CoreId(rest.0),
                table: rest.1,
                place: rest.2,
            })
        });
        let reason = prop_oneof![
            any::<u8>().prop_map(Reason::Rejected),
            any::<u8>().prop_map(Reason::Unknown),
            any::<u8>().prop_map(Reason::Ended),
        ]
        .prop_map(move |reason| rules.reason.then_some(reason));
        let rest = (
            any::<(u32, u16, u32)>(),
            0..16_u16,
            any::<u32>(),
            any::<[u8; 16]>(),
        );
        (
            any_target(rules.target),
            tag,
            address,
            reason,
            rest,
            life(),
            bytes(80),
            payload,
        )
            .prop_map(
                move |(target, tag, address, reason, rest, life, id, payload)| {
                    let ((_, core, stream), flags, left, trace) = rest;
                    let sender = Sender {
                        life,
                        core: CoreId(core),
                        stream,
                    };
                    let of_the_connection = matches!(rules.plane, None | Some(Plane::Handshake));
                    let trace = match flags & 4 == 0 || of_the_connection {
                        true => [0; 16],
                        false => trace,
                    };
                    let left = if of_the_connection { 0 } else { left };
                    let is_for_shard = matches!(target, Target::Shard { .. });
                    let flags = if is_for_shard { flags } else { 0 };
                    let has_id = rules.target == Targets::EntityOrActor
                        && matches!(target, Target::Shard { .. });
                    let header = Header {
                        flags: Flags::from_bits(flags)
                            .unwrap_or_default()
                            .with(Flags::HAS_TRACE, trace != [0; 16]),
                        tag,
                        address,
                        reason,
                        remaining: (left > 0).then(|| Duration::from_micros(u64::from(left))),
                        trace,
                        ..Header::new(kind, target, sender)
                    };
                    (header, if has_id { id } else { Vec::new() }, payload)
                },
            )
    })
}

fn any_tag() -> impl Strategy<Value = TypeTag> {
    (1..u64::MAX, any::<u16>()).prop_map(|(fingerprint, version)| TypeTag {
        fingerprint,
        version,
    })
}
