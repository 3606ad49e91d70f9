//! The consumer's side against a model: it never asks for more than it may, and keeps what it gets in order.

use super::error::StreamError;
use super::inlet::Inlet;
use proptest::prelude::*;

proptest! {
    #[test]
    fn asks_for_no_more_than_it_may(ahead in 0..10_usize, steps in prop::collection::vec((0..5_u8, 0..7_usize), 1..200)) {
        let mut inlet = Inlet::new();
        inlet.ask_ahead(ahead);
        let (mut allowed, mut asked, mut received, mut taken) = (ahead, 0, 0_u64, 0_u64);
        for (step, items) in steps {
            match step {
                0 => {
                    inlet.allow(items);
                    allowed += items;
                }
                1 => {
                    if let Some(item) = inlet.take() {
                        prop_assert_eq!(item, taken);
                        taken += 1;
                        allowed += usize::from(ahead > 0);
                    }
                }
                2 if asked == 0 => {
                    asked = inlet.ask();
                    prop_assert!(received as usize + asked <= allowed);
                }
                3 if asked > 0 => {
                    let items = items.min(asked);
                    prop_assert!(inlet.answered(items));
                    inlet.keep((received..received + items as u64).map(|item| (item, item)).collect());
                    received += items as u64;
                    asked = 0;
                }
                _ => {
                    prop_assert!(asked == 0 || inlet.wants() == 0, "one demand at a time");
                }
            }
        }
        prop_assert!(inlet.finish(Err(StreamError::Abandoned)) && !inlet.finish(Ok(())));
        prop_assert_eq!(inlet.take_end().is_some(), taken == received);
        while let Some(item) = inlet.take() {
            prop_assert_eq!(item, taken);
            taken += 1;
        }
        prop_assert_eq!(taken, received);
        prop_assert_eq!(inlet.wants(), 0);
    }
}

#[test]
fn without_asking_ahead_it_asks_for_what_somebody_waits_for() {
    let mut inlet = Inlet::new();
    inlet.ask_ahead(0);
    assert_eq!(inlet.ask(), 0);
    inlet.wait();
    inlet.wait();
    assert_eq!((inlet.ask(), inlet.wants()), (1, 0));
    inlet.wait();
    assert!(inlet.answered(1));
    inlet.keep(vec![(0, 'a')]);
    assert_eq!(
        (inlet.wants(), inlet.take(), inlet.wants()),
        (0, Some('a'), 0)
    );
    assert_eq!(inlet.take_end(), None);
}

#[test]
fn it_asks_again_when_half_of_it_has_been_taken() {
    let mut inlet = Inlet::new();
    inlet.ask_ahead(4);
    assert_eq!(inlet.ask(), 4);
    assert!(inlet.answered(4));
    inlet.keep((0..4).map(|item| (item, item)).collect());
    inlet.take();
    assert_eq!(inlet.wants(), 0);
    inlet.take();
    assert_eq!(inlet.wants(), 2);
    assert_eq!(inlet.leave(), [(2, 2), (3, 3)]);
    assert_eq!((inlet.wants(), inlet.take_end()), (0, None));
    assert!(!inlet.answered(0) && !inlet.finish(Ok(())));
}
