//! Where the rows come from: a file, plain or gzip, or the flights that ship with loadgen.

use std::fmt;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Cursor, Read};
use std::path::PathBuf;

use flate2::bufread::MultiGzDecoder;

/// The flights file of `data/`, so that a fresh clone has something to replay from any directory.
static FLIGHTS: &[u8] = include_bytes!("../../data/flights.csv.gz");
const GZIP_MAGIC: [u8; 2] = [0x1F, 0x8B];
const BUFFER_BYTES: usize = 1 << 16;

/// The input of a replay. It is opened twice: for the entities and for the independent pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// The flights that ship with loadgen.
    Flights,
    /// A file, plain or gzip, which its first bytes tell.
    File(PathBuf),
}

/// What ends a replay: the input as a whole cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum InputError {
    /// The file cannot be opened.
    #[error("cannot open '{path}': {source}", path = path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is a directory, a pipe or a device.
    #[error("'{path}' is not a regular file; a replay reads its input twice, so save it to a file first", path = path.display())]
    NotAFile {
        /// The file.
        path: PathBuf,
    },
    /// There is nothing in it.
    #[error("{input} is empty: it needs a header line that names the columns")]
    Empty {
        /// The input.
        input: String,
    },
    /// A gzip file ends too early.
    #[error("{input} is a truncated gzip file: it ends in the middle, after line {after_line}")]
    Truncated {
        /// The input.
        input: String,
        /// The last line that was whole.
        after_line: u64,
    },
    /// A gzip file is damaged, or the disk is.
    #[error("cannot read {input} after line {after_line}: {source}")]
    Read {
        /// The input.
        input: String,
        /// The last line that was whole.
        after_line: u64,
        /// Why.
        source: io::Error,
    },
    /// The header is not a line of column names.
    #[error("the header (line 1) of {input} {reason}")]
    Header {
        /// The input.
        input: String,
        /// What is wrong.
        reason: String,
    },
    /// A column that was asked for does not exist.
    #[error("{input} has no column '{column}'; it has {existing}")]
    NoColumn {
        /// The input.
        input: String,
        /// The column.
        column: String,
        /// The columns it has.
        existing: String,
    },
}

impl Source {
    /// The given file, or the flights.
    #[must_use]
    pub fn new(file: Option<PathBuf>) -> Source {
        file.map_or(Source::Flights, Source::File)
    }

    /// Opens it for reading, unpacked.
    ///
    /// # Errors
    /// When it cannot be opened, is no regular file, or is empty.
    pub fn open(&self) -> Result<Box<dyn BufRead>, InputError> {
        match self {
            Source::Flights => self.unpacked(Cursor::new(FLIGHTS)),
            Source::File(path) => {
                let failed = |source| InputError::Open {
                    path: path.clone(),
                    source,
                };
                // Asked before opening: opening a pipe would wait for its writer.
                if !std::fs::metadata(path).map_err(failed)?.is_file() {
                    return Err(InputError::NotAFile { path: path.clone() });
                }
                self.unpacked(BufReader::with_capacity(
                    BUFFER_BYTES,
                    File::open(path).map_err(failed)?,
                ))
            }
        }
    }

    fn unpacked(&self, mut packed: impl BufRead + 'static) -> Result<Box<dyn BufRead>, InputError> {
        let failed = |source| self.failed(source, 0);
        let mut magic = Vec::with_capacity(GZIP_MAGIC.len());
        packed
            .by_ref()
            .take(GZIP_MAGIC.len() as u64)
            .read_to_end(&mut magic)
            .map_err(failed)?;
        let is_gzip = magic == GZIP_MAGIC;
        let whole = Cursor::new(magic).chain(packed);
        let mut lines: Box<dyn BufRead> = if is_gzip {
            Box::new(BufReader::with_capacity(
                BUFFER_BYTES,
                MultiGzDecoder::new(whole),
            ))
        } else {
            Box::new(whole)
        };
        if lines.fill_buf().map_err(failed)?.is_empty() {
            return Err(InputError::Empty {
                input: self.to_string(),
            });
        }
        Ok(lines)
    }

    /// A failed read, told apart by its cause.
    pub(super) fn failed(&self, source: io::Error, after_line: u64) -> InputError {
        let input = self.to_string();
        match source.kind() {
            io::ErrorKind::UnexpectedEof => InputError::Truncated { input, after_line },
            _ => InputError::Read {
                input,
                after_line,
                source,
            },
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Flights => f.write_str("the built-in flights file"),
            Source::File(path) => write!(f, "'{}'", path.display()),
        }
    }
}
