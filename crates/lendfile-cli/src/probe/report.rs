//! What the probe found, as plain data. The JSON form is the serialisation of these types.

use serde::Serialize;

/// Everything the probe found.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    /// What was probed.
    pub(crate) system: Vec<Fact>,
    /// What was tried.
    pub(crate) abilities: Vec<Finding>,
    /// What was read and bounds a server.
    pub(crate) limits: Vec<Fact>,
}

/// One thing that was read.
#[derive(Debug, Serialize)]
pub(crate) struct Fact {
    pub(crate) name: &'static str,
    #[serde(flatten)]
    pub(crate) value: Value,
}

/// What a [`Fact`] says.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "type", content = "value", rename_all = "snake_case")]
pub(crate) enum Value {
    Bytes(u64),
    Count(u64),
    Text(String),
    /// It could not be read, for this reason.
    Unknown(String),
    Unlimited,
}

/// One thing that was tried.
#[derive(Debug, Serialize)]
pub(crate) struct Finding {
    pub(crate) name: &'static str,
    #[serde(flatten)]
    pub(crate) outcome: Outcome,
}

/// How it went.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub(crate) enum Outcome {
    /// It was done and the effect checked.
    Works {
        /// What is worth knowing besides.
        #[serde(skip_serializing_if = "Option::is_none")]
        note: Option<String>,
    },
    /// This machine does not have it or does not allow it.
    Unavailable(Trouble),
    /// The attempt went wrong, which does not say whether the machine has it.
    Failed(Trouble),
    /// Something it needs did not work.
    Untried {
        /// The name of what it needs.
        needs: &'static str,
    },
}

/// What stood in the way.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Trouble {
    /// The system call or operation that did not work.
    pub(crate) step: &'static str,
    /// Its error number, if it returned one.
    pub(crate) errno: Option<i32>,
    /// The number's name, such as `EPERM`.
    pub(crate) errno_name: Option<&'static str>,
    /// The error in words.
    pub(crate) message: String,
    /// What would help.
    pub(crate) cure: Option<&'static str>,
}
