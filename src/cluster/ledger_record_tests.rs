//! Tests of the bytes of a ledger's records: they are these and no others, and whatever is read is what was written or an
//! error.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::ledger_record::*;
use crate::base::ids::{Incarnation, NodeId};
use crate::consensus::configuration::{ConfigurationChange, ConfigurationRecord, PeerChange};
use crate::consensus::entry::{EntryBody, HardState, LogEntry, ProposalRecord, SnapshotMeta};
use crate::consensus::founding::{Ballot, Founding, Promise};
use crate::consensus::peer::{ClusterId, DiskId};

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn entry(body: EntryBody) -> LogEntry {
    LogEntry {
        index: 7,
        term: 3,
        body,
    }
}

fn command() -> LogEntry {
    let proposal = ProposalRecord {
        node: 1,
        incarnation: 2,
        only_term: 3,
        number: 4,
        floor: 5,
    };
    entry(EntryBody::Command(proposal, b"abc".to_vec()))
}

fn change() -> LogEntry {
    let steps = vec![
        (PeerChange::Vote, 1),
        (PeerChange::Learn, 2),
        (PeerChange::Remove, 3),
    ];
    entry(EntryBody::Change(ConfigurationChange { steps }))
}

fn founding() -> Founding {
    Founding {
        cluster: 0xC1,
        voters: vec![0x1_0000_0002, 0x3_0000_0004],
    }
}

fn header() -> SnapshotHeader {
    SnapshotHeader {
        meta: SnapshotMeta {
            index: 9,
            term: 2,
            configuration: ConfigurationRecord {
                voters: vec![1],
                learners: vec![2],
                outgoing: vec![3],
                learners_next: vec![4],
                auto_leave: true,
            },
        },
        replaces_log: true,
        bytes: 11,
    }
}

/// What is on disks already. A change of it is a new version, which reads the old ones.
#[test]
fn records_have_these_bytes() {
    let mut out = Vec::new();
    let mut entry_bytes = |entry: &LogEntry| (put_entry(&mut out, entry), hex(&out));
    assert_eq!(
        entry_bytes(&entry(EntryBody::Empty)),
        (0, "010300000000000000".to_owned())
    );
    let bytes = concat!(
        "010300000000000000",
        "0100000002000000",
        "030000000000000004000000000000000500000000000000",
        "616263"
    );
    assert_eq!(entry_bytes(&command()), (1, bytes.to_owned()));
    let bytes = concat!(
        "010300000000000000",
        "03000000",
        "000100000000000000",
        "010200000000000000",
        "020300000000000000"
    );
    assert_eq!(entry_bytes(&change()), (2, bytes.to_owned()));

    let disk = DiskId::from_number(0x0A0B_0C0D).unwrap();
    assert_eq!(hex(&identity(NodeId(5), disk)), "01050000000d0c0b0a");
    let state = HardState {
        term: 1,
        vote: 2,
        commit: 3,
    };
    let bytes = "01010000000000000002000000000000000300000000000000";
    assert_eq!(hex(&hard_state(&state)), bytes);
    let mut belongs = ClusterRecord {
        cluster: ClusterId(0xC1),
        founding: None,
    };
    let bytes = "01c100000000000000000000000000000000";
    assert_eq!(hex(&cluster(&belongs)), bytes);
    belongs.founding = Some(founding());
    let bytes = concat!(
        "01c1000000000000000000000000000000",
        "01020000000200000001000000",
        "0400000003000000"
    );
    assert_eq!(hex(&cluster(&belongs)), bytes);
    let mut promised = Promise {
        promised: Ballot { round: 1, peer: 2 },
        accepted: None,
    };
    let bytes = "010100000000000000020000000000000000";
    assert_eq!(hex(&promise(&promised)), bytes);
    promised.accepted = Some((Ballot { round: 3, peer: 4 }, founding()));
    let bytes = concat!(
        "0101000000000000000200000000000000",
        "0103000000000000000400000000000000",
        "c1000000000000000000000000000000",
        "0200000002000000010000000400000003000000"
    );
    assert_eq!(hex(&promise(&promised)), bytes);
    assert_eq!(hex(&incarnation(Incarnation(6))), "0106000000");

    let bytes = concat!(
        "010109000000000000000200000000000000",
        "010000000100000000000000",
        "010000000200000000000000",
        "010000000300000000000000",
        "010000000400000000000000",
        "010b00000000000000"
    );
    assert_eq!(hex(&snapshot_header(&header())), bytes);
    put_snapshot_part(&mut out, b"xyz");
    assert_eq!(hex(&out), "0178797a");
}

/// Why some bytes cannot be read.
type Read = fn(&[u8]) -> Option<RecordError>;

/// Everything that can be read, with the bytes of one.
fn readers() -> Vec<(Vec<u8>, Read)> {
    let mut bytes = [Vec::new(), Vec::new(), Vec::new(), Vec::new()];
    put_entry(&mut bytes[0], &entry(EntryBody::Empty));
    put_entry(&mut bytes[1], &command());
    put_entry(&mut bytes[2], &change());
    put_snapshot_part(&mut bytes[3], b"part");
    let [empty, a_command, a_change, part] = bytes;
    let disk = DiskId::from_number(1).unwrap();
    let belongs = ClusterRecord {
        cluster: ClusterId(1),
        founding: Some(founding()),
    };
    let promised = Promise {
        promised: Ballot { round: 1, peer: 2 },
        accepted: Some((Ballot { round: 3, peer: 4 }, founding())),
    };
    vec![
        (empty, |bytes| read_entry(7, 0, bytes).err()),
        (a_command, |bytes| read_entry(7, 1, bytes).err()),
        (a_change, |bytes| read_entry(7, 2, bytes).err()),
        (part, |bytes| read_snapshot_part(bytes).err()),
        (identity(NodeId(1), disk), |bytes| {
            read_identity(bytes).err()
        }),
        (hard_state(&HardState::default()), |bytes| {
            read_hard_state(bytes).err()
        }),
        (cluster(&belongs), |bytes| read_cluster(bytes).err()),
        (promise(&promised), |bytes| read_promise(bytes).err()),
        (incarnation(Incarnation(1)), |bytes| {
            read_incarnation(bytes).err()
        }),
        (snapshot_header(&header()), |bytes| {
            read_snapshot_header(bytes).err()
        }),
    ]
}

#[test]
fn other_versions_and_broken_records_are_refused() {
    for (number, (bytes, read)) in readers().into_iter().enumerate() {
        assert_eq!(read(&bytes), None, "{number}");
        let mut newer = bytes.clone();
        newer[0] = 2;
        assert_eq!(read(&newer), Some(RecordError::Version(2)), "{number}");
        // A command and a part are as long as their record is.
        let (open_end, header) = match number {
            1 => (true, 1 + 8 + 32),
            3 => (true, 1),
            _ => (false, bytes.len()),
        };
        for length in 0..header {
            let error = read(&bytes[..length]);
            assert!(
                matches!(error, Some(RecordError::Malformed(_))),
                "{number}, {length} bytes: {error:?}"
            );
        }
        if !open_end {
            let longer = [&bytes[..], &[0]].concat();
            assert!(read(&longer).is_some(), "{number}");
        }
    }
    let mut out = Vec::new();
    put_entry(&mut out, &entry(EntryBody::Empty));
    assert!(read_entry(7, 9, &out).is_err(), "there is no such kind");
    // No memory for what is only announced.
    let mut huge = snapshot_header(&header());
    huge[18..22].copy_from_slice(&u32::MAX.to_le_bytes());
    assert!(read_snapshot_header(&huge).is_err());
}

fn any_body() -> impl Strategy<Value = EntryBody> {
    let proposal = (any::<(u32, u32, u64, u64, u64)>()).prop_map(
        |(node, incarnation, only_term, number, floor)| ProposalRecord {
            node,
            incarnation,
            only_term,
            number,
            floor,
        },
    );
    let sort = prop_oneof![
        Just(PeerChange::Vote),
        Just(PeerChange::Learn),
        Just(PeerChange::Remove)
    ];
    let command = (proposal, vec(any::<u8>(), 0..200));
    prop_oneof![
        Just(EntryBody::Empty),
        command.prop_map(|(proposal, command)| EntryBody::Command(proposal, command)),
        vec((sort, any::<u64>()), 0..9)
            .prop_map(|steps| EntryBody::Change(ConfigurationChange { steps })),
    ]
}

fn any_founding() -> impl Strategy<Value = Founding> {
    (any::<u128>(), vec(any::<u64>(), 0..64))
        .prop_map(|(cluster, voters)| Founding { cluster, voters })
}

fn any_ballot() -> impl Strategy<Value = Ballot> {
    any::<(u64, u64)>().prop_map(|(round, peer)| Ballot { round, peer })
}

proptest! {
    #[test]
    fn entries_are_read_as_they_were_written(index in 1_u64.., term: u64, body in any_body()) {
        let entry = LogEntry { index, term, body };
        let mut out = vec![9; 3];
        let kind = put_entry(&mut out, &entry);
        prop_assert_eq!(read_entry(index, kind, &out), Ok(entry));
    }

    #[test]
    fn values_are_read_as_they_were_written(
        numbers: (u64, u64, u64), node: u32, disk in 1_u32.., founding in any_founding(),
        promised in any_ballot(), accepted in option::of(any_ballot()), knows: bool,
    ) {
        let (term, vote, commit) = numbers;
        let state = HardState { term, vote, commit };
        prop_assert_eq!(read_hard_state(&hard_state(&state)), Ok(state));
        let disk = DiskId::from_number(disk).unwrap();
        prop_assert_eq!(read_identity(&identity(NodeId(node), disk)), Ok((NodeId(node), disk)));
        prop_assert_eq!(read_incarnation(&incarnation(Incarnation(node))), Ok(Incarnation(node)));
        let record = ClusterRecord { cluster: founding.cluster(), founding: knows.then(|| founding.clone()) };
        prop_assert_eq!(read_cluster(&cluster(&record)), Ok(record));
        let made = Promise { promised, accepted: accepted.map(|ballot| (ballot, founding)) };
        let bytes = promise(&made);
        prop_assert!(bytes.len() <= crate::log::MAX_STATE_BYTES);
        prop_assert_eq!(read_promise(&bytes), Ok(made));
    }

    #[test]
    fn snapshots_are_read_as_they_were_written(
        numbers: (u64, u64, u64), flags: (bool, bool), peers in vec(vec(any::<u64>(), 0..20), 4..5),
        data in vec(any::<u8>(), 0..100),
    ) {
        let (index, term, bytes) = numbers;
        let mut peers = peers.into_iter();
        let mut next = || peers.next().unwrap();
        let configuration = ConfigurationRecord {
            voters: next(),
            learners: next(),
            outgoing: next(),
            learners_next: next(),
            auto_leave: flags.0,
        };
        let meta = SnapshotMeta { index, term, configuration };
        let header = SnapshotHeader { meta, replaces_log: flags.1, bytes };
        prop_assert_eq!(read_snapshot_header(&snapshot_header(&header)), Ok(header));
        let mut part = vec![1];
        put_snapshot_part(&mut part, &data);
        prop_assert_eq!(read_snapshot_part(&part), Ok(&data[..]));
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in vec(any::<u8>(), 0..120), one: bool) {
        let mut bytes = bytes;
        if let Some(first) = bytes.first_mut().filter(|_| one) {
            *first = VERSION;
        }
        for (_, read) in readers() {
            let _ = read(&bytes);
        }
    }
}
