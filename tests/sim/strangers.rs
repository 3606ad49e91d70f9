//! References of another node of the same process lead nowhere.

use corecast::base::ids::CoreId;
use corecast::sim::{Simulation, check_seeds};
use corecast::{Actor, Context, EntityType, Fault, Next, Region, Rejection, ReplyTo};

struct Named(&'static str);

impl Actor for Named {
    type Msg = ReplyTo<&'static str>;

    fn receive(
        &mut self,
        reply: ReplyTo<&'static str>,
        ctx: &mut Context<'_, Self>,
    ) -> Result<Next, Fault> {
        ctx.reply(reply, self.0);
        Ok(Next::Continue)
    }
}

type Names = Region<u64, ReplyTo<&'static str>>;

fn node(name: &'static str, mut builder: corecast::sim::SimulationBuilder) -> (Simulation, Names) {
    let region = builder.entities(EntityType::send("named", move |_: &u64| Named(name)));
    (builder.start(), region)
}

#[test]
fn a_node_refuses_the_entities_and_actors_of_another() {
    check_seeds(5, |builder| {
        let (mut other, theirs) = node("other", Simulation::builder(builder.seed()));
        let (mut own, ours) = node("own", builder);
        let stranger = other.spawn(CoreId(0), || Named("stranger")).unwrap();
        // The number of the type, the shards and the names of the types are the same.
        assert_eq!(theirs.type_id(), ours.type_id());
        assert_eq!(theirs.shard_of(&7), ours.shard_of(&7));
        assert_eq!(own.ask(ours.entity(&7), |reply| reply), Ok("own"));
        let refused = Err(Rejection::OldIncarnation.into());
        assert_eq!(own.ask(theirs.entity(&7), |reply| reply), refused);
        assert_eq!(own.ask(theirs.entity_ref(7), |reply| reply), refused);
        assert_eq!(own.ask(stranger, |reply| reply), refused);
        assert_eq!(other.ask(theirs.entity(&7), |reply| reply), Ok("other"));
        assert_eq!(other.ask(ours.entity(&7), |reply| reply), refused);
        own
    });
}
