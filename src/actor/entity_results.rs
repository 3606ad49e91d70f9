//! What entities have asked for comes to them wherever they are by then.

use super::cell::EntityPlace;
use super::entity_id::EntityId;
use super::guard::guarded;
use super::local::Local;
use super::lost::on_the_way_of;
use super::reference::{Receiver, Region, shard_of};
use super::region::Sender;
use super::reply::Envelope;
use crate::base::ids::EntityTypeId;
use crate::wire::message::Message;

impl Local {
    /// The reference of an entity that lives here, to be used by results that find it wherever it is by then.
    pub(crate) fn entity_of<I: EntityId, M: Message>(
        &mut self,
        place: EntityPlace,
        slot: u32,
    ) -> Option<(Region<I, M>, I)> {
        let runtime = self.runtime;
        let region = self.region_mut::<I, M>(place.region)?;
        let id = region.id_of(place, slot)?.clone();
        let shards = region.routes.len() as u32;
        Some((Region::new(runtime, EntityTypeId(place.region), shards), id))
    }

    /// Sends to an entity what must not be refused: the result of something that the entity asked for.
    pub(crate) fn bring_to_entity<I: EntityId, M: Message>(
        &mut self,
        region: Region<I, M>,
        key: &I::Key,
        message: M,
    ) {
        let sent = guarded(|| {
            let hash = on_the_way_of::<M, _>(|| I::stable_hash(key));
            let shard = shard_of(hash, region.num_shards);
            self.route_to_entity::<I, M>(region.id.0, shard, key, message, None, Sender::Accepted)
        });
        match sent {
            Ok(Ok(())) => {}
            Ok(Err(refused)) => {
                let receiver = Receiver::Entity(region.id, &key);
                self.dead_letter(receiver, refused.why, Envelope::Plain, refused.message);
            }
            Err(panic) => self.region_fault(region.id.0, &panic),
        }
    }
}
