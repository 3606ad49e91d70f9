//! The repository's text files.

use std::fs;
use std::path::Path;

/// A text file of the repository.
#[derive(Clone, Debug)]
pub(crate) struct SourceFile {
    /// From the root of the repository, with `/`.
    pub path: String,
    /// Its content.
    pub text: String,
}

impl SourceFile {
    /// A file with this content.
    pub(crate) fn new(path: &str, text: &str) -> SourceFile {
        SourceFile {
            path: path.to_owned(),
            text: text.to_owned(),
        }
    }

    /// Whether it is Rust source of the library or of the load generator, as opposed to a test or a bench.
    pub(crate) fn is_crate_source(&self) -> bool {
        self.is_library_source() || self.path.starts_with("loadgen/src/") && self.is_rust()
    }

    /// Whether it is Rust source of the library.
    pub(crate) fn is_library_source(&self) -> bool {
        self.path.starts_with("src/") && self.is_rust()
    }

    fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }
}

/// Reads every text file below `root` that `.gitignore` does not name; what is not UTF-8 is not text.
pub(crate) fn read_repository(root: &Path) -> Vec<SourceFile> {
    let ignored = fs::read_to_string(root.join(".gitignore")).unwrap_or_default();
    let ignored: Vec<&str> = ignored
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect();
    let mut files = Vec::new();
    read_directory(root, "", &ignored, &mut files);
    files.sort_by(|a, b| a.path.cmp(&b.path));
    files
}

fn read_directory(directory: &Path, prefix: &str, ignored: &[&str], files: &mut Vec<SourceFile>) {
    let entries =
        fs::read_dir(directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    for entry in entries {
        let entry = entry.expect("a directory entry");
        let path = format!("{prefix}{}", entry.file_name().to_string_lossy());
        if path == ".git" || ignored.iter().any(|pattern| is_ignored(&path, pattern)) {
            continue;
        }
        let kind = entry.file_type().expect("a file type");
        if kind.is_dir() {
            read_directory(&entry.path(), &format!("{path}/"), ignored, files);
        } else if kind.is_file()
            && let Ok(text) = fs::read_to_string(entry.path())
        {
            files.push(SourceFile { path, text });
        }
    }
}

/// The forms of patterns we use: `/path` from the root, `*.ending`, and a name anywhere.
fn is_ignored(path: &str, pattern: &str) -> bool {
    let pattern = pattern.trim_end_matches('/');
    let name = path.rsplit('/').next().unwrap_or(path);
    match (pattern.strip_prefix('/'), pattern.strip_prefix('*')) {
        (Some(from_root), _) => path == from_root,
        (None, Some(ending)) => name.ends_with(ending),
        (None, None) => name == pattern,
    }
}

#[test]
fn ignored_files_are_left_out() {
    for (path, pattern, ignored) in [
        ("target", "/target", true),
        ("benches/peers/target", "/benches/peers/target", true),
        ("src/target", "/target", false),
        ("runs/a.hgrm", "*.hgrm", true),
        ("runs/a.html", "*.hgrm", false),
        ("deep/results", "results/", true),
        ("deep/results.rs", "results", false),
    ] {
        assert_eq!(is_ignored(path, pattern), ignored, "{path} by {pattern}");
    }
}
