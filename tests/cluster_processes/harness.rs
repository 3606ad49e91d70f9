//! Which tests there are, and how they are run.

mod cells;
#[path = "../common/directory.rs"]
mod directory;
mod entities;
mod errands;
mod failures;
mod formation;
mod hostile;
mod in_process;
mod measured;
mod networks;
mod node;
mod outage;
mod partitions;
mod pouring;
mod process;
#[path = "../common/requirements.rs"]
mod requirements;
mod rolling;

use libtest_mimic::{Arguments, Trial};
use std::process::ExitCode;

/// `tests![module::function, ...]`, by the name of the function.
macro_rules! tests {
    ($($module:ident::$test:ident,)*) => {
        [$(Trial::test(concat!(stringify!($module), "::", stringify!($test)), || {
            $module::$test();
            Ok(())
        }),)*]
    };
}

/// Runs the tests that the command line asks for, or is one of their processes.
pub(crate) fn run() -> ExitCode {
    if let Ok(flags) = std::env::var(node::FLAGS) {
        node::run(&flags);
        return ExitCode::SUCCESS;
    }
    if let Ok(flags) = std::env::var(errands::FLAGS) {
        errands::run(&flags);
    }
    // In about the order of their times, but the one that has to be alone.
    let usual = tests![
        in_process::the_end_of_a_node_leaves_nothing_behind,
        partitions::a_node_that_nobody_hears_answers_nothing_and_the_others_go_on,
        failures::killed_nodes_are_declared_down_and_come_back_in_a_new_life,
        errands::actors_of_other_nodes_are_found_stopped_and_watched,
        partitions::the_smaller_side_of_a_partition_seals_and_the_larger_one_goes_on_without_its_leader,
        hostile::strangers_at_the_port_cost_little_and_change_nothing,
        formation::three_nodes_form_one_cluster_and_a_fourth_comes_and_leaves_while_it_runs,
        failures::a_node_that_was_stopped_learns_that_its_life_has_ended_and_rejoins_by_itself,
        entities::a_node_that_was_stopped_answers_nothing_as_the_owner_that_it_was_and_rejoins,
        entities::the_shards_of_a_killed_node_are_owned_again,
        errands::a_node_that_was_declared_down_and_comes_back_takes_nobody_for_gone,
        entities::a_node_that_shuts_down_is_not_missed,
        formation::what_keeps_a_node_from_starting_is_told,
        entities::entities_answer_from_everywhere,
        in_process::a_program_sees_its_cluster_and_leaves_it,
        in_process::a_runtime_without_a_cluster_has_none,
    ];
    // From some ten seconds to some minutes each.
    let longer = tests![
        entities::a_node_that_was_stopped_for_half_a_minute_is_not_believed_either,
        failures::a_node_that_has_lost_its_directory_is_let_in_as_another_disk,
        formation::a_runtime_that_ends_without_leaving_is_missed_or_comes_back_in_time,
        formation::a_second_holder_of_a_live_id_is_refused,
        hostile::a_node_without_descriptors_goes_on_and_says_so_once,
        measured::how_long_forming_and_failover_take,
        partitions::partitions_of_every_kind_around_every_kind_of_node,
        rolling::every_node_is_restarted_and_nothing_that_was_answered_is_lost,
    ];
    let longer = longer.map(|test| test.with_ignored_flag(true));
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(process::CLUSTERS);
    let tests = usual.into_iter().chain(longer).collect();
    libtest_mimic::run(&arguments, tests).exit_code()
}
