//! Paths: each leads to one actor, whatever ids and names say.

use corecast::base::ids::CoreId;
use corecast::sim::{Simulation, check_seeds};
use corecast::{
    Actor, ActorRef, Context, EntityId, EntityType, Fault, Next, Region, ReplyTo, SpawnError,
};
use std::fmt;

/// An id that is shown as it likes.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Id(u64, String);

impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.1)
    }
}

impl EntityId for Id {
    type Key = Id;

    fn from_key(key: &Id) -> Id {
        key.clone()
    }

    fn as_key(&self) -> &Id {
        self
    }

    fn is(&self, key: &Id) -> bool {
        self == key
    }

    fn stable_hash(key: &Id) -> u64 {
        key.0
    }
}

/// Has children of the same kind.
struct Node;

type Spawned = Result<ActorRef<Msg>, SpawnError>;

#[derive(Debug)]
enum Msg {
    Spawn(&'static str, ReplyTo<Spawned>),
    Child(&'static str, ReplyTo<Option<ActorRef<Msg>>>),
    Path(ReplyTo<String>),
}

impl Actor for Node {
    type Msg = Msg;

    fn receive(&mut self, msg: Msg, ctx: &mut Context<'_, Self>) -> Result<Next, Fault> {
        match msg {
            Msg::Spawn(name, reply_to) => {
                let child = ctx.spawn_actor_with(name, || Node);
                ctx.reply(reply_to, child);
            }
            Msg::Child(name, reply_to) => {
                let child = ctx.child(name)?;
                ctx.reply(reply_to, child);
            }
            Msg::Path(reply_to) => {
                let path = ctx.path();
                ctx.reply(reply_to, path);
            }
        }
        Ok(Next::Continue)
    }
}

fn spawn(
    sim: &mut Simulation,
    of: impl corecast::Destination<Msg = Msg>,
    name: &'static str,
) -> Spawned {
    sim.ask(of, move |reply_to| Msg::Spawn(name, reply_to))
        .unwrap()
}

fn child(
    sim: &mut Simulation,
    of: impl corecast::Destination<Msg = Msg>,
    name: &'static str,
) -> Option<ActorRef<Msg>> {
    sim.ask(of, move |reply_to| Msg::Child(name, reply_to))
        .unwrap()
}

#[test]
fn a_child_is_found_by_its_name_and_a_grandchild_is_not() {
    check_seeds(5, |builder| {
        let mut sim = builder.start();
        let root = sim.spawn_supervised(CoreId(0), "root", || Node).unwrap();
        let a = spawn(&mut sim, root, "a").unwrap();
        let b = spawn(&mut sim, a, "b").unwrap();
        assert_eq!(child(&mut sim, root, "a"), Some(a));
        assert_eq!(child(&mut sim, a, "b"), Some(b));
        for name in ["a/b", "a/", "/a", "b", "", "/", "$0.0.1"] {
            assert_eq!(child(&mut sim, root, name), None, "{name:?}");
        }
        assert_eq!(sim.handle().lookup("root/a/b"), Ok(Some(b)));
        sim
    });
}

fn nodes(builder: &mut corecast::sim::SimulationBuilder) -> Region<Id, Msg> {
    builder.entities(EntityType::ephemeral("node", |_: &Id| Node).num_shards(1))
}

#[test]
fn no_id_has_the_path_of_somebody_else() {
    check_seeds(5, |mut builder| {
        let nodes = nodes(&mut builder);
        let mut sim = builder.start();
        let plain = Id(1, "1".into());
        let plain = nodes.entity(&plain);
        let inner = spawn(&mut sim, plain, "x").unwrap();
        spawn(&mut sim, inner, "y").unwrap();
        let long = "z".repeat(10_000);
        for (number, shown) in [
            "1/x",
            "1%2Fx",
            "",
            "/",
            "$0.0.1",
            &long,
            &(long.clone() + "1"),
        ]
        .into_iter()
        .enumerate()
        {
            let id = Id(10 + number as u64, shown.to_owned());
            let other = nodes.entity(&id);
            assert_eq!(child(&mut sim, other, "y"), None, "{shown:.20}");
            let own = spawn(&mut sim, other, "y").unwrap();
            assert_eq!(child(&mut sim, other, "y"), Some(own));
            let path = sim.ask(own, Msg::Path).unwrap();
            assert_eq!(sim.handle().lookup(&path), Ok(Some(own)), "{path}");
            assert_eq!(path.matches('/').count(), 2, "{path}");
            assert!(path.len() < 300, "{path}");
        }
        let path = sim.ask(inner, Msg::Path).unwrap();
        assert_eq!(path, "node/1/x");
        assert_eq!(child(&mut sim, plain, "x"), Some(inner));
        sim
    });
}

/// Who keeps its ids to itself has to share the names of children, but not the children.
#[test]
fn entities_that_look_alike_do_not_find_each_others_children() {
    check_seeds(5, |mut builder| {
        let nodes = nodes(&mut builder);
        let mut sim = builder.start();
        let [one, other] = [1, 2].map(|number| Id(number, "***".into()));
        let own = spawn(&mut sim, nodes.entity(&one), "x").unwrap();
        assert_eq!(child(&mut sim, nodes.entity(&one), "x"), Some(own));
        assert_eq!(child(&mut sim, nodes.entity(&other), "x"), None);
        let taken = spawn(&mut sim, nodes.entity(&other), "x");
        assert!(matches!(taken, Err(SpawnError::NameTaken { .. })));
        sim
    });
}

#[test]
fn a_root_is_not_called_like_an_entity_type() {
    check_seeds(5, |mut builder| {
        nodes(&mut builder);
        let mut sim = builder.start();
        let refused = sim.spawn_supervised(CoreId(0), "node", || Node);
        assert!(
            matches!(refused, Err(SpawnError::BadName { .. })),
            "{refused:?}"
        );
        let root = sim.spawn_supervised(CoreId(0), "nodes", || Node).unwrap();
        spawn(&mut sim, root, "node").unwrap();
        sim
    });
}
