//! Nodes that do not reach each other, or one way only. That takes root and iproute2.

use super::cells::MAILBOX;
use super::networks::{Cut, Networks};
use super::outage::Outage;
use super::process::{Place, beside_another, can_run};

/// How many asks more there are than a mailbox takes.
const MORE: u64 = 64;

/// A cluster of three each of which has a network of its own, if there can be one.
fn place() -> Option<Place> {
    if !can_run() {
        return None;
    }
    Some(Place::in_networks(3, Networks::make()?))
}

#[track_caller]
fn one_is_cut_off(place: &Place, cut: Cut, leads: bool) {
    let mut outage = Outage::of(place.form(), leads);
    let (lost, spare) = (outage.lost.id, outage.spare());
    if !place.networks().cut(lost, cut) {
        return;
    }
    outage.has_begun();
    outage
        .lost
        .wait_for_view("its lease is over", |view| !view.quorum);
    // What it has owned does not run there any more. As many asks wait as there is room for, for as long as they may; the
    // others are told why at once.
    outage
        .lost
        .tell(&format!("crowd {spare} {}", u64::from(MAILBOX) + MORE));
    outage.others_go_on();
    let crowd = outage.lost.wait_for_line("crowd ").text;
    match cut {
        Cut::Both => assert_eq!(crowd, format!("crowd 0 {MAILBOX} {MORE} 0")),
        // Whoever hears the others hears that it is out of the cluster, and drops what it had.
        Cut::Outgoing | Cut::Incoming => assert!(crowd.starts_with("crowd 0 "), "{crowd}"),
    }
    place.networks().mend(lost, cut);
    outage.has_ended();
}

pub(crate) fn the_smaller_side_of_a_partition_seals_and_the_larger_one_goes_on_without_its_leader()
{
    let _turn = beside_another();
    let Some(place) = place() else { return };
    one_is_cut_off(&place, Cut::Both, true);
}

pub(crate) fn a_node_that_nobody_hears_answers_nothing_and_the_others_go_on() {
    let _turn = beside_another();
    let Some(place) = place() else { return };
    one_is_cut_off(&place, Cut::Outgoing, false);
}

pub(crate) fn partitions_of_every_kind_around_every_kind_of_node() {
    for cut in [Cut::Both, Cut::Outgoing, Cut::Incoming] {
        for leads in [false, true] {
            let _turn = beside_another();
            let Some(place) = place() else { return };
            one_is_cut_off(&place, cut, leads);
        }
    }
}
