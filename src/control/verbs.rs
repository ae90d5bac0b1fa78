//! Every verb: its request, and the answer that belongs to it.

use serde::{Deserialize, Serialize};

use super::{Failure, request, response};

/// A request that has an answer of a type of its own.
pub trait Verb: Into<Request> {
    /// The answer.
    type Answer: Serialize;

    /// Takes the answer out of the response; `None` when it is the answer to something else.
    fn answer(response: Response) -> Option<Self::Answer>;
}

macro_rules! verbs {
    ($($verb:ident => $answer:ident: $doc:literal,)*) => {
        /// What the daemon is asked to do.
        #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case", tag = "verb")]
        pub enum Request {
            $(#[doc = $doc] $verb(request::$verb),)*
        }

        /// What the daemon answers: under the name of the verb, its document.
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum Response {
            $(#[doc = $doc] $verb(response::$answer),)*
        }

        $(
            impl From<request::$verb> for Request {
                fn from(request: request::$verb) -> Request {
                    Request::$verb(request)
                }
            }

            impl Verb for request::$verb {
                type Answer = response::$answer;

                fn answer(response: Response) -> Option<response::$answer> {
                    match response {
                        Response::$verb(answer) => Some(answer),
                        _ => None,
                    }
                }
            }
        )*
    };
}

verbs! {
    Status => StatusReport: "`status`",
    Stop => Stopping: "`stop`",
    PlatformAdd => PlatformAdded: "`platform add`",
    PlatformList => Platforms: "`platform list`",
    PlatformShow => PlatformDetails: "`platform show`",
    PlatformVerify => PlatformVerification: "`platform verify`",
    PlatformRemove => PlatformRemoved: "`platform remove`",
    SiteImport => SiteImported: "`site import`",
    SiteList => Sites: "`site list`",
    SiteShow => SiteDetails: "`site show`",
    SiteSet => SettingValue: "`site set`",
    SiteRemove => SiteRemoved: "`site remove`",
    SnapshotTake => SnapshotTaken: "`snapshot`",
    Log => SnapshotLog: "`log`",
    Show => SnapshotDetails: "`show`",
    Diff => Differences: "`diff`",
    Tag => Tagged: "`tag`",
    SiteClone => SiteCloned: "`clone`",
    Deploy => Deployed: "`deploy`",
    Cutover => Switched: "`cutover`",
    Rollback => Switched: "`rollback`",
    Restore => Restored: "`restore`",
    Readonly => ReadonlyState: "`readonly`",
    Vhost => VhostMade: "`vhost`",
    Update => UpdateOutcome: "`update`",
    RunList => Runs: "`run list`",
    RunShow => RunDetails: "`run show`",
    DatabaseDump => DatabaseDumped: "`database dump`",
    DatabaseRestore => DatabaseRestored: "`database restore`",
    DatabaseClone => DatabaseCloned: "`database clone`",
    DatabaseVerify => DatabaseVerification: "`database verify`",
    Prune => Pruned: "`prune`",
    Gc => Collected: "`gc`",
    Send => Sent: "`send`",
    Receive => Received: "`receive`",
    Verify => Verification: "`verify`",
    SiteVerify => SiteVerification: "`verify SITE --against`",
}

impl Request {
    /// Whether the caller sends bytes after the request.
    pub fn takes_input(&self) -> bool {
        matches!(
            self,
            Request::DatabaseRestore(request::DatabaseRestore { from: request::DatabaseSource::Input, .. })
                | Request::Receive(_)
        )
    }
}

/// How a request ends.
pub type Reply = Result<Response, Failure>;
