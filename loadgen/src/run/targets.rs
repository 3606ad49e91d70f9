//! Whom a key stands for: an entity of a region, or an actor of a list.

use std::sync::Arc;

use corecast::{ActorRef, Destination, EntityAt, Region};

use super::entity::ToEntity;
use super::payload::Payload;

/// Receivers by key.
pub(super) trait Targets<P: Payload>: Clone + Send + 'static {
    type To<'k>: Destination<Msg = ToEntity<P>>;

    fn at<'k>(&self, key: &'k u64) -> Self::To<'k>;
}

impl<P: Payload> Targets<P> for Region<u64, ToEntity<P>> {
    type To<'k> = EntityAt<'k, u64, ToEntity<P>>;

    #[inline]
    fn at<'k>(&self, key: &'k u64) -> Self::To<'k> {
        self.entity(key)
    }
}

/// Actors that were spawned for the run.
#[derive(Debug)]
pub(super) struct Receivers<P>(Arc<[ActorRef<ToEntity<P>>]>);

impl<P> From<Vec<ActorRef<ToEntity<P>>>> for Receivers<P> {
    fn from(receivers: Vec<ActorRef<ToEntity<P>>>) -> Self {
        Receivers(receivers.into())
    }
}

impl<P> Clone for Receivers<P> {
    fn clone(&self) -> Self {
        Receivers(self.0.clone())
    }
}

impl<P: Payload> Targets<P> for Receivers<P> {
    type To<'k> = ActorRef<ToEntity<P>>;

    #[inline]
    fn at<'k>(&self, key: &'k u64) -> Self::To<'k> {
        self.0[*key as usize]
    }
}
