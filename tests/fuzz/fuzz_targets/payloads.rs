//! Archives from a peer that lies, under a header that is right.
#![no_main]

use corecast::WireMessage;
use corecast::wire::address::{Sender, Target};
use corecast::wire::header::Header;
use corecast::wire::kind::{Kind, Plane};
use corecast::wire::limits::FrameLimits;
use corecast::wire::reader::FrameReader;
use corecast::wire::writer::FrameWriter;
use libfuzzer_sys::fuzz_target;

#[derive(Debug, PartialEq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
#[rkyv(serialize_bounds(
    __S: rkyv::ser::Writer + rkyv::ser::Allocator,
    __S::Error: rkyv::rancor::Source,
))]
#[rkyv(deserialize_bounds(__D::Error: rkyv::rancor::Source))]
#[rkyv(bytecheck(bounds(__C: rkyv::validation::ArchiveContext, __C::Error: rkyv::rancor::Source)))]
enum Tree {
    Leaf(u64),
    Text(String, Option<char>),
    Texts {
        texts: Vec<String>,
        flag: bool,
    },
    Node(
        #[rkyv(omit_bounds)] Box<Tree>,
        #[rkyv(omit_bounds)] Box<Tree>,
    ),
    Many(#[rkyv(omit_bounds)] Vec<Tree>),
}

impl WireMessage for Tree {
    const NAME: &'static str = "fuzz.Tree";
    const VERSION: u16 = 1;
}

fuzz_target!(|data: &[u8]| {
    let target = Target::Actor {
        incarnation: corecast::base::ids::Incarnation(1),
        core: corecast::CoreId(0),
        cell: 1,
    };
    let mut tell = Header::new(Kind::Tell, target, Sender::default());
    tell.tag = Tree::type_tag();
    let limits = FrameLimits::default();
    let mut writer = FrameWriter::new(limits);
    writer
        .write_bytes(&tell, &[], data)
        .expect("there is room for it");
    let mut reader = FrameReader::new(Plane::Data, limits);
    assert_eq!(reader.take_in(writer.pending()), writer.pending().len());
    let frame = reader.next().expect("a sound frame").expect("a whole one");
    let payload = frame.payload();
    match payload.access::<Tree>() {
        Ok(_) => {
            let tree: Tree = payload.deserialize().expect("what is valid can be read");
            // Written again it is read as the same, though its bytes may be others.
            let mut again = FrameWriter::new(limits);
            if again.write_ref(&tell, &[], &tree).is_ok() {
                let mut reader = FrameReader::new(Plane::Data, limits);
                let mut rest = again.pending();
                while !rest.is_empty() {
                    let count = reader.take_in(rest);
                    rest = &rest[count..];
                }
                let frame = reader.next().expect("a sound frame").expect("a whole one");
                assert_eq!(frame.payload().deserialize::<Tree>().expect("valid"), tree);
            }
        }
        Err(error) => assert!(!error.is_fatal(), "{error}"),
    }
});
