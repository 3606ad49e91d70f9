//! The layers of the library import strictly downward.

use crate::Finding;
use crate::files::SourceFile;
use crate::rust_source::{NamedPath, named_paths, tokens};

/// The top-level modules, from the top down. A module may name those of lower rows, and none of its own row.
const LAYERS: [&[&str]; 9] = [
    &["node", "data"],
    &["io", "sim"],
    &["engine"],
    &["behavior", "stream"],
    &["cluster"],
    &["actor", "persistence"],
    &[
        "membership",
        "links",
        "consensus",
        "sharding",
        "replication",
        "registry",
        "delivery",
    ],
    &["wire", "mesh", "log"],
    &["base"],
];

/// Finds the paths of one file that lead upwards or sideways.
pub(crate) fn check(file: &SourceFile) -> Vec<Finding> {
    // The root only lists and re-exports.
    if !file.is_library_source() || file.path == "src/lib.rs" {
        return Vec::new();
    }
    let module = module_of(&file.path);
    let finding = |line, what| Finding {
        path: file.path.clone(),
        line,
        what,
    };
    let Some(row) = row_of(&module[0]) else {
        let what = format!(
            "`{}` is in no layer; add it to LAYERS in tests/tidy/layers.rs",
            module[0]
        );
        return vec![finding(1, what)];
    };
    let mut findings = Vec::new();
    for path in named_paths(&tokens(&file.text)) {
        let Some(target) = target_of(&path, &module) else {
            continue;
        };
        let what = match row_of(&target) {
            _ if target == module[0] => continue,
            Some(target_row) if target_row > row => continue,
            Some(target_row) if target_row == row => format!(
                "`{}` names `{target}`, which is beside it; move what both need into a lower layer, or let a higher one \
                 bring them together",
                module[0]
            ),
            Some(_) => format!(
                "`{}` names `{target}`, which is above it; move what it needs down, or take it as an argument",
                module[0]
            ),
            None if path.calls_macro => continue,
            None => format!(
                "`crate::{target}` goes through the root, where its layer cannot be seen; name the module it lives in"
            ),
        };
        findings.push(finding(path.line, what));
    }
    findings
}

fn row_of(module: &str) -> Option<usize> {
    LAYERS.iter().position(|row| row.contains(&module))
}

/// The module of a file below `src`, such as `engine`, `turn` for `src/engine/turn.rs`.
fn module_of(path: &str) -> Vec<String> {
    let inner = path
        .trim_start_matches("src/")
        .trim_end_matches(".rs")
        .trim_end_matches("/mod");
    inner.split('/').map(str::to_owned).collect()
}

/// The top-level name that a path leads to, if it is one of this crate's; an empty one is the root itself.
fn target_of(path: &NamedPath, module: &[String]) -> Option<String> {
    let mut absolute: Vec<&String> = module.iter().chain(&path.inside).collect();
    let mut rest = path.segments.as_slice();
    match rest.first()?.as_str() {
        "crate" | "corecast" => {
            absolute.clear();
            rest = &rest[1..];
        }
        "super" | "self" => {}
        _ => return None,
    }
    while let Some(step @ ("super" | "self")) = rest.first().map(String::as_str) {
        if step == "super" {
            absolute.pop();
        }
        rest = &rest[1..];
    }
    absolute.extend(rest);
    Some(
        absolute
            .first()
            .map(|name| (*name).clone())
            .unwrap_or_default(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(path: &str, text: &str) -> Vec<(usize, String)> {
        let findings = check(&SourceFile::new(path, text));
        findings
            .into_iter()
            .map(|finding| (finding.line, finding.what))
            .collect()
    }

    #[track_caller]
    fn assert_found(path: &str, text: &str, line: usize, part: &str) {
        let found = findings(path, text);
        assert!(
            matches!(&found[..], [(at, what)] if *at == line && what.contains(part)),
            "{path}: {text}: {found:?}"
        );
    }

    #[test]
    fn every_pair_of_modules_is_judged_by_its_rows() {
        for (row, modules) in LAYERS.iter().enumerate() {
            for module in *modules {
                for (target_row, targets) in LAYERS.iter().enumerate() {
                    for target in *targets {
                        let text = format!("use crate::{target}::Thing;");
                        let found = findings(&format!("src/{module}/file.rs"), &text);
                        let allowed = target_row > row || target == module;
                        assert_eq!(found.is_empty(), allowed, "{module} to {target}: {found:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn upward_and_sideways_are_told_apart() {
        assert_found("src/base/a.rs", "\nuse crate::engine::Turn;", 2, "above it");
        assert_found("src/io/a.rs", "use crate::sim::World;", 1, "beside it");
    }

    #[test]
    fn every_way_to_write_it_is_understood() {
        for text in [
            "use crate::{base::ids, engine::Turn};",
            "use crate::{\nbase::{ids},\n};use super::super::engine::Turn;",
            "use super::super::{base, engine};",
            "fn f() { crate::engine::turn(); }",
            "fn f(x: &crate::engine::Turn) {}",
            "use corecast::engine::Turn;",
            "mod inner { use super::super::super::engine::Turn; }",
            "use self::super::super::engine::Turn;",
            "macro_rules! m { () => { $crate::engine::turn() } }",
            "use crate::engine as low;",
            "pub(in crate::engine) fn f() {}",
        ] {
            let found = findings("src/actor/cell.rs", text);
            assert_eq!(found.len(), 1, "{text}: {found:?}");
            assert!(
                found[0].1.contains("`actor` names `engine`"),
                "{text}: {found:?}"
            );
        }
    }

    #[test]
    fn the_root_hides_no_layer() {
        assert_found(
            "src/actor/cell.rs",
            "use crate::Runtime;",
            1,
            "goes through the root",
        );
        assert_found(
            "src/actor/cell.rs",
            "use crate::*;",
            1,
            "goes through the root",
        );
        assert_found(
            "src/actor/mod.rs",
            "use super::Runtime;",
            1,
            "goes through the root",
        );
        assert_eq!(
            findings("src/actor/cell.rs", "fn f() { crate::message!(u8); }"),
            []
        );
    }

    #[test]
    fn what_is_allowed_is_not_found() {
        for (path, text) in [
            (
                "src/engine/turn.rs",
                "use crate::actor::Cell;\nuse super::lane;\nuse crate::{base::ids, mesh::lane};",
            ),
            ("src/engine/turn.rs", "use std::io;\nuse node::Thing;"),
            (
                "src/engine/mod.rs",
                "mod turn;\npub use turn::Turn;\nuse super::base::ids;",
            ),
            (
                "src/base/a.rs",
                "//! See [`crate::node::Runtime`].\n/// use crate::engine::Turn;\nconst A: &str = \"crate::node\";",
            ),
            (
                "src/base/a.rs",
                "#[cfg(test)]\nmod tests { use crate::engine::Turn; }",
            ),
            ("src/lib.rs", "pub use crate::node::Runtime;"),
            ("tests/a.rs", "use crate::node::Runtime;"),
            ("loadgen/src/a.rs", "use crate::Runtime;"),
        ] {
            assert_eq!(findings(path, text), [], "{path}: {text}");
        }
    }

    #[test]
    fn a_module_without_a_layer_is_found() {
        assert_found(
            "src/utilities/mod.rs",
            "pub mod strings;",
            1,
            "`utilities` is in no layer",
        );
        assert_found("src/misc.rs", "", 1, "`misc` is in no layer");
    }
}
