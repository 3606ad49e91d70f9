//! Finding actors of other nodes by their paths.

use super::actor_archive::know_message;
use super::directory::WrongMessageType;
use super::handle::Handle;
use super::job::call;
use super::local::Local;
use super::lookups::Outcome;
use super::pending::{Pending, pending};
use super::reference::{ActorRef, AnyActorRef};
use super::refusal::Rejection;
use crate::base::ids::NodeId;
use crate::wire::lookup::LONGEST_PATH;
use crate::wire::message::{TypeTag, WireMessage};

/// Why a lookup across nodes has found neither an actor nor that there is none. Nothing has changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LookupError {
    /// The actor that has the path takes messages of another type, or of another version of it. The types are compared as
    /// a whole, by [fingerprint](WireMessage::fingerprint): if both names and versions are the same, their sizes differ.
    #[error("the actor {path} on {node} takes messages of the type {takes}, not {wanted}")]
    OtherType {
        /// The node that has it.
        node: NodeId,
        /// Where it was found.
        path: String,
        /// What it takes: name and version.
        takes: String,
        /// What was asked for: name and version.
        wanted: String,
    },
    /// The actor that has the path was not spawned as one that is found from other nodes
    /// ([`SpawnOptions::clustered`](crate::SpawnOptions::clustered)).
    #[error(
        "the actor {path} on {node} cannot be found from other nodes; spawn it with `SpawnOptions::clustered`"
    )]
    NotClustered {
        /// The node that has it.
        node: NodeId,
        /// Where it was found.
        path: String,
    },
    /// That node is no member of the cluster, as far as is known here. It is this node if every node should have been asked
    /// and this one is no member itself, so that it can ask nobody.
    #[error("{0} is no member of the cluster")]
    NotAMember(NodeId),
    /// These nodes could not be asked, or have not answered in time, and none of the others has the path: nobody knows
    /// whether there is such an actor.
    #[error("nobody else has {path}, and {nodes:?} could not be asked or have not answered")]
    Unanswered {
        /// The path.
        path: String,
        /// The nodes.
        nodes: Vec<NodeId>,
    },
    /// The path is longer than 4,096 bytes.
    #[error("the path has {0} bytes; at most {LONGEST_PATH} can be looked up on other nodes")]
    TooLong(usize),
    /// As many lookups wait for an answer on this core as may.
    #[error("too many lookups wait for an answer on this core")]
    TooMany,
    /// The request did not reach the core.
    #[error("the request did not reach the core: {0}")]
    Rejected(#[from] Rejection),
    /// The runtime has ended.
    #[error("the runtime has ended")]
    RuntimeGone,
}

/// What is looked for.
pub(super) struct Wanted {
    pub(super) path: String,
    pub(super) tag: TypeTag,
    pub(super) name: &'static str,
}

impl Wanted {
    /// Somebody was found who takes something else.
    pub(super) fn other(&self, node: NodeId, takes: &str, version: u16) -> LookupError {
        LookupError::OtherType {
            node,
            path: self.path.clone(),
            takes: format!("{takes} (version {version})"),
            wanted: format!("{} (version {})", self.name, self.tag.version),
        }
    }
}

/// # Finding actors on other nodes
///
/// Only actors of [wire messages](WireMessage) can be used from other nodes, and only those are found that were spawned as
/// [`clustered`](crate::SpawnOptions::clustered). (On its own node an actor is found whatever it was spawned as.) A lookup
/// waits as long as an ask ([`Settings::ask_timeout`](crate::Settings::ask_timeout)).
impl Handle {
    /// The actor with a path on a named node of the cluster: a root by its name, a child by its
    /// [path](super::context::Context::path). `None` if that node says that it has none.
    ///
    /// ```
    /// use corecast::base::ids::{CoreId, NodeId};
    /// use corecast::sim::check_cluster_seeds;
    /// use corecast::{Actor, Context, Fault, Next, SpawnOptions, WireMessage};
    ///
    /// struct Printer;
    ///
    /// #[derive(Debug, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
    /// struct Page(String);
    ///
    /// impl WireMessage for Page {
    ///     const NAME: &'static str = "example.Page";
    ///     const VERSION: u16 = 1;
    /// }
    ///
    /// impl Actor for Printer {
    ///     type Msg = Page;
    ///
    ///     fn receive(&mut self, page: Page, _: &mut Context<'_, Self>) -> Result<Next, Fault> {
    ///         println!("{}", page.0);
    ///         Ok(Next::Continue)
    ///     }
    /// }
    ///
    /// let (here, there) = (NodeId(1), NodeId(2));
    /// check_cluster_seeds(2, |mut cluster| {
    ///     for node in [here, there] {
    ///         cluster.start(node, |builder| (builder.cores(1), ()));
    ///     }
    ///     cluster.publish();
    ///     let options = SpawnOptions::default().named("printer").clustered::<Page>();
    ///     let made = cluster.node(there).handle().spawn_with(CoreId(0), options, || Printer);
    ///     assert!(cluster.run_until(made).unwrap().is_ok());
    ///
    ///     let found = cluster.node(here).handle().lookup_on::<Page>(there, "printer");
    ///     let printer = cluster.run_until(found).unwrap().unwrap().expect("it is there");
    ///     cluster.node(here).tell(printer, Page("good morning".into()));
    ///
    ///     let missing = cluster.node(here).handle().lookup_anywhere::<Page>("plotter");
    ///     assert_eq!(cluster.run_until(missing).unwrap(), Ok(None));
    ///     cluster
    /// });
    /// ```
    ///
    /// # Errors
    /// [`LookupError::OtherType`] and [`LookupError::NotClustered`] if somebody has the path, but not as an actor that takes
    /// `M` from other nodes; [`LookupError::NotAMember`]; [`LookupError::Unanswered`] if the node could not be asked, the
    /// connection broke, or it has not answered in time; the others say that it was not asked.
    pub fn lookup_on<M: WireMessage>(
        &self,
        node: NodeId,
        path: &str,
    ) -> Pending<Result<Option<ActorRef<M>>, LookupError>> {
        self.look_up(Some(node), path)
    }

    /// The actor with a path on any node of the cluster. Every member is asked, this node first, and the first that has it
    /// is taken; `None` if all of them say that they have none.
    ///
    /// # Errors
    /// As [`lookup_on`](Handle::lookup_on); [`LookupError::NotAMember`] names this node, if it is none. One that is found counts more than an error of another node, and somebody of
    /// another type more than nodes that have not answered.
    pub fn lookup_anywhere<M: WireMessage>(
        &self,
        path: &str,
    ) -> Pending<Result<Option<ActorRef<M>>, LookupError>> {
        self.look_up(None, path)
    }

    fn look_up<M: WireMessage>(
        &self,
        node: Option<NodeId>,
        path: &str,
    ) -> Pending<Result<Option<ActorRef<M>>, LookupError>> {
        let path = path.strip_prefix('/').unwrap_or(path);
        if path.len() > LONGEST_PATH {
            return Pending::ready(Err(LookupError::TooLong(path.len())));
        }
        know_message::<M>();
        let wanted = Wanted {
            path: path.to_owned(),
            tag: M::type_tag(),
            name: M::NAME,
        };
        let within = self.gate().ask_timeout();
        let (completer, found) = pending(Err(LookupError::RuntimeGone));
        let done = move |outcome: Outcome| {
            completer.complete(outcome.map(|actor| actor.map(AnyActorRef::of_type::<M>)));
        };
        let job = call(move |local: &mut Local| {
            let me = local.home.node();
            if node.is_none_or(|node| node == me) {
                match local.handle.gate().directory.find::<M>(&wanted.path) {
                    Ok(None) if node.is_none() => {}
                    Ok(own) => return done(Ok(own.map(AnyActorRef::from))),
                    Err(WrongMessageType { path, takes, .. }) => {
                        return done(Err(LookupError::OtherType {
                            node: me,
                            path,
                            takes: takes.to_owned(),
                            wanted: std::any::type_name::<M>().to_owned(),
                        }));
                    }
                }
            }
            local.look_up(node, wanted, within, Box::new(done));
        });
        match self.gate().submit(self.entry(), job) {
            Ok(()) => found,
            Err((why, _)) => Pending::ready(Err(why.into())),
        }
    }
}
