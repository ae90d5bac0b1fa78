//! Databases on servers, as generations have them.
//!
//! Each generation has a database and an account of its own there, made from a snapshot's dump. Their record is in the
//! catalog from before they are made until after they were dropped, under the generation's key. So whatever a crash
//! leaves on a server is known here: a record without a generation is something to drop, and a database with this
//! store's mark but without a record is told of by `status`, and left to a person.

use std::collections::BTreeSet;
use std::io::{self, Read};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Daemon;
use crate::base::SiteName;
use crate::control::{Events, Failure};
use crate::database::{
    DatabaseError, Difference, Secret, ServerAddress, ServerDatabase, ServerDump, ServerHold, ServerUrl,
    Summary,
};
use crate::history::{DatabaseSnapshot, Record};
use crate::live::Access;
use crate::objects::{FileContent, Objects};
use crate::site::{DatabaseFacts, Generation, GenerationName, GenerationState, Site};

/// How long transactions of others may take until writes are held.
pub(super) const HOLD_WAIT: Duration = Duration::from_secs(30);

/// What the keys of databases begin with that are made to prove a dump; no site has such a name.
const TRIAL: &str = "!trial/";

/// The counter that gives out the numbers of databases.
const COUNTER: &str = "database";

/// The longest part of a site's name in that of a database, in characters.
const SITE_CHARACTERS_MAX: usize = 12;

/// More than a dump has before its first statement, in bytes.
const HEAD_BYTES: u64 = 4096;

/// What the names of all databases of this store on servers begin with. A server may serve several stores.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct StoreMark(String);

impl Record for StoreMark {
    const TABLE: &'static str = "store-mark";
    const VERSION: u8 = 1;
}

/// Reads the content of a file from the store.
struct ContentReader<'a> {
    objects: &'a Objects,
    content: &'a FileContent,
    offset: u64,
}

impl Read for ContentReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.objects.read_at(self.content, self.offset, buffer).map_err(io::Error::other)?;
        self.offset += count as u64;
        Ok(count)
    }
}

/// A dump that was begun while writes were held, to be read to its end afterwards.
pub(super) struct BegunDump {
    dump: ServerDump,
    engine: String,
    /// Whether tables without transactions are among what it reads: then writes are held until its end.
    pub(super) needs_hold: bool,
}

impl BegunDump {
    /// Puts the rest of it into the store.
    fn store(self, objects: &Objects, is_verified: bool) -> Result<DatabaseSnapshot, Failure> {
        self.store_until(objects, is_verified, &AtomicBool::new(false))
    }

    /// As [`BegunDump::store`], and an error as soon as `is_over` is set.
    pub(super) fn store_until(
        self,
        objects: &Objects,
        is_verified: bool,
        is_over: &AtomicBool,
    ) -> Result<DatabaseSnapshot, Failure> {
        let BegunDump { dump, engine, .. } = self;
        let mut reader = Abandonable { dump, is_over };
        let content = objects.put_file(&mut reader, u64::MAX)?;
        let Summary { tables, schema } = reader.dump.finish()?;
        Ok(DatabaseSnapshot {
            engine,
            file: None,
            dump: Some(content),
            tables,
            schema,
            verified: is_verified,
        })
    }
}

/// Reads until it is given up.
struct Abandonable<'a, R> {
    dump: R,
    is_over: &'a AtomicBool,
}

impl<R: Read> Read for Abandonable<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.is_over.load(Ordering::SeqCst) {
            true => Err(io::Error::other("nobody wants it any more")),
            false => self.dump.read(buffer),
        }
    }
}

impl Daemon {
    /// The database of a generation on a server; `None` where its site has none there.
    pub(super) fn server_database(&self, name: &GenerationName) -> Result<Option<ServerDatabase>, Failure> {
        Ok(self.store.catalog.get(&name.key())?)
    }

    /// Whether the site's database is on a server.
    pub(super) fn is_on_server(site: &Site) -> bool {
        site.database.as_ref().is_some_and(|database| database.files.is_empty())
    }

    /// The server of a site, with what `CREATE DATABASE` is told there.
    pub(super) fn server_of(&self, site: &Site) -> Result<(ServerAddress, String), Failure> {
        let live = self.live_generation(&site.name)?;
        let database = self.server_database(&live.name)?;
        let database = database.ok_or_else(|| {
            Failure::failed(format!("the record of the database of {} is missing", live.name))
        })?;
        Ok((database.at.server, database.creation))
    }

    /// Puts down that a generation is going to have a database. Nothing is made yet.
    pub(super) fn announce_database(
        &self,
        key: &str,
        site: &SiteName,
        server: ServerAddress,
        creation: String,
    ) -> Result<ServerDatabase, Failure> {
        let (password, digits) = (Secret::random()?, Secret::random()?);
        let plain = |character: char| if character.is_ascii_alphanumeric() { character } else { '_' };
        let label: String =
            site.as_str().chars().map(|c| plain(c.to_ascii_lowercase())).take(SITE_CHARACTERS_MAX).collect();
        self.store.catalog.write(|tx| {
            let mark = match tx.get::<StoreMark>("")? {
                Some(mark) => mark,
                None => {
                    let mark = StoreMark(format!("sf{}_", &digits.reveal()[..6]));
                    tx.put("", &mark)?;
                    mark
                }
            };
            let name = format!("{}{}_{label}", mark.0, tx.next_number(COUNTER)?);
            let at = ServerUrl { server, name: name.clone() };
            let database = ServerDatabase { at, user: name, password, creation, is_closed: false };
            tx.put(key, &database)?;
            Ok(database)
        })
    }

    /// Makes a database from a dump, reads it back, and compares it with what the dump was recorded to hold. Without a
    /// dump it stays empty.
    pub(super) fn fill_database(
        &self,
        database: &ServerDatabase,
        recorded: Option<&DatabaseSnapshot>,
    ) -> Result<(), Failure> {
        database.create()?;
        let Some((recorded, dump)) = recorded.and_then(|recorded| Some((recorded, recorded.dump.as_ref()?)))
        else {
            return Ok(());
        };
        if recorded.engine != database.at.server.engine.to_string() {
            return Err(Failure::refused(format!(
                "a database of {} cannot become one of {}",
                recorded.engine, database.at.server.engine
            )));
        }
        database.load(&mut self.read_content(dump))?;
        compare_copy(database, recorded)
    }

    /// An error when a recorded database is from a server that is newer than `server`.
    pub(super) fn check_origin(
        &self,
        server: &ServerAddress,
        recorded: &DatabaseSnapshot,
    ) -> Result<(), Failure> {
        let mut head = Vec::new();
        if let Some(dump) = &recorded.dump {
            let read = self.read_content(dump).take(HEAD_BYTES).read_to_end(&mut head);
            read.map_err(|error| Failure::failed("the dump could not be read").because(&error))?;
        }
        Ok(server.check_origin(&head)?)
    }

    /// Lets a generation that is going to be made have the database that another one has on a server.
    pub(super) fn share_database(
        &self,
        owner: &GenerationName,
        name: &GenerationName,
    ) -> Result<(), Failure> {
        self.store.catalog.write(|tx| match tx.get::<ServerDatabase>(&owner.key())? {
            Some(database) => Ok(tx.put(&name.key(), &database)?),
            None => Ok(()),
        })
    }

    /// Whether another generation has the same database on a server.
    pub(super) fn is_database_shared(&self, name: &GenerationName) -> Result<bool, Failure> {
        let key = name.key();
        match self.server_database(name)? {
            Some(database) => self.is_named_elsewhere(&key, &database),
            None => Ok(false),
        }
    }

    /// Whether a record other than that of `key` names the same database.
    fn is_named_elsewhere(&self, key: &str, database: &ServerDatabase) -> Result<bool, Failure> {
        let all = self.store.catalog.list::<ServerDatabase>("")?;
        Ok(all.iter().any(|(other, found)| other != key && found.at == database.at))
    }

    /// Takes the database of a generation off its server, unless another has the same. Where that cannot be now, its
    /// record stays, `status` tells of it, and the next start tries again.
    pub(super) fn drop_database(&self, key: &str) -> Result<(), Failure> {
        let Some(database) = self.store.catalog.get::<ServerDatabase>(key)? else { return Ok(()) };
        if self.is_named_elsewhere(key, &database)? {
            return self.store.catalog.write(|tx| Ok(tx.remove::<ServerDatabase>(key).map(drop)?));
        }
        match database.drop() {
            Ok(()) => {
                self.store.catalog.write(|tx| tx.remove::<ServerDatabase>(key).map_err(Failure::from))?;
            }
            Err(error) => log::warn!("database {} stays for now: {error}", database.at.name),
        }
        Ok(())
    }

    /// For the start: drops the databases that no generation has, and lets live sites write to theirs, or not, as a
    /// crash in the middle of a switch or of `readonly` may have left it otherwise.
    pub(super) fn settle_databases(&self) -> Result<(), Failure> {
        for (key, database) in self.store.catalog.list::<ServerDatabase>("")? {
            match self.store.catalog.get::<Generation>(&key)? {
                None => self.drop_database(&key)?,
                Some(generation) if generation.state == GenerationState::Live => {
                    if let Err(failure) = self.settle_live_database(&generation.name, &database) {
                        log::error!("the database of {} is not as it should be: {failure}", generation.name);
                    }
                }
                Some(_) => {}
            }
        }
        Ok(())
    }

    fn settle_live_database(&self, name: &GenerationName, database: &ServerDatabase) -> Result<(), Failure> {
        if self.live_access(&self.site(&name.site)?) == Access::Writable {
            return self.set_database_writable(name, true);
        }
        self.set_database_writable(name, false)?;
        // The hold that kept connections from before from writing has ended with the daemon. What they were made for
        // has lost its files with the mount.
        database.end_sessions(&database.sessions()?);
        Ok(())
    }

    /// What is on servers and should not be, and servers that do not answer, for people.
    pub(super) fn database_problems(&self) -> Result<Vec<String>, Failure> {
        let mut problems = Vec::new();
        let records = self.store.catalog.list::<ServerDatabase>("")?;
        let busy = self.locks.held();
        for (key, database) in &records {
            let site = key.split('/').next().and_then(|site| site.parse::<SiteName>().ok());
            let is_being_made = site.is_none_or(|site| busy.contains_key(&site));
            if !is_being_made && self.store.catalog.get::<Generation>(key)?.is_none() {
                problems.push(format!(
                    "database {} on {} is to be dropped: the next start of the daemon tries again",
                    database.at.name, database.at.server
                ));
            }
        }
        let Some(StoreMark(mark)) = self.store.catalog.get("")? else { return Ok(problems) };
        let servers: std::collections::HashSet<&ServerAddress> =
            records.iter().map(|(_, database)| &database.at.server).collect();
        for server in servers {
            let known: BTreeSet<&str> =
                records.iter().map(|(_, database)| database.at.name.as_str()).collect();
            match server.databases_with(&mark) {
                Ok(found) => problems.extend(found.iter().filter(|name| !known.contains(name.as_str())).map(|name| {
                    format!("database {name} on {server} belongs to nothing in this store: drop it and its account")
                })),
                Err(error) => problems.push(error.to_string()),
            }
        }
        problems.sort();
        Ok(problems)
    }

    /// Begins to dump the database of a generation: its moment is before this returns.
    pub(super) fn begin_dump(&self, generation: &Generation) -> Result<Option<BegunDump>, Failure> {
        let Some(database) = self.server_database(&generation.name)? else { return Ok(None) };
        Ok(Some(begin_dump(&database.at)?))
    }

    /// Puts the rest of a dump into the store.
    pub(super) fn store_dump(
        &self,
        begun: BegunDump,
        is_verified: bool,
    ) -> Result<DatabaseSnapshot, Failure> {
        begun.store(&self.store.trees.objects, is_verified)
    }

    /// Proves that a dump can be restored: makes a database from it, compares, and drops that again.
    pub(super) fn prove_dump(&self, site: &Site, recorded: &DatabaseSnapshot) -> Result<(), Failure> {
        self.with_trial_database(site, |trial| self.fill_database(trial, Some(recorded)))
    }

    /// What a dump that a person gives holds, as a dump of the server's own.
    pub(super) fn adopt_dump(&self, site: &Site, text: &mut dyn Read) -> Result<DatabaseSnapshot, Failure> {
        self.with_trial_database(site, |trial| {
            trial.create()?;
            trial.load(text)?;
            self.store_dump(begin_dump(&trial.at)?, true)
        })
    }

    fn with_trial_database<T>(
        &self,
        site: &Site,
        work: impl FnOnce(&ServerDatabase) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let (key, trial) = self.announce_trial(site)?;
        let result = work(&trial);
        self.drop_database(&key)?;
        result
    }

    /// Puts down that a database is going to be made that no generation has, on the server of a site.
    pub(super) fn announce_trial(&self, site: &Site) -> Result<(String, ServerDatabase), Failure> {
        let (server, creation) = self.server_of(site)?;
        let number = self.store.catalog.write(|tx| tx.next_number(COUNTER).map_err(Failure::from))?;
        let key = format!("{TRIAL}{number}");
        let trial = self.announce_database(&key, &site.name, server, creation)?;
        Ok((key, trial))
    }

    /// Sends a dump to whoever asked for it; its length in bytes.
    pub(super) fn send_dump(&self, dump: &FileContent, events: &dyn Events) -> Result<u64, Failure> {
        io::copy(&mut self.read_content(dump), &mut crate::control::DataWriter(events))
            .map_err(|error| Failure::failed("the dump could not be sent").because(&error))
    }

    fn read_content<'a>(&'a self, content: &'a FileContent) -> impl Read + 'a {
        let reader = ContentReader { objects: &self.store.trees.objects, content, offset: 0 };
        io::BufReader::with_capacity(1 << 20, reader)
    }

    /// Lets the account of a generation write to its database on a server, or not.
    pub(super) fn set_database_writable(
        &self,
        name: &GenerationName,
        is_writable: bool,
    ) -> Result<(), Failure> {
        let Some(database) = self.server_database(name)? else { return Ok(()) };
        if is_writable && !database.is_closed {
            return Ok(());
        }
        let put = |is_closed| {
            let record = ServerDatabase { is_closed, ..database.clone() };
            self.store.catalog.write(|tx| tx.put(&name.key(), &record).map_err(Failure::from))
        };
        if is_writable {
            database.set_writable(true)?;
            put(false)
        } else {
            // Power may fail after this and before the other generation is live: the next start opens it again.
            put(true)?;
            Ok(database.set_writable(false)?)
        }
    }

    /// How the application of a generation gets to its database.
    pub(super) fn database_facts(&self, name: &GenerationName) -> Result<Option<DatabaseFacts>, Failure> {
        let Some(database) = self.server_database(name)? else { return Ok(None) };
        let server = &database.at.server;
        let socket = server.socket.as_ref().filter(|_| server.host.is_none());
        Ok(Some(DatabaseFacts {
            engine: server.engine.to_string(),
            host: server.host.clone().unwrap_or_default(),
            port: server.port.map(|port| port.to_string()).unwrap_or_default(),
            socket: socket.map(|path| path.display().to_string()).unwrap_or_default(),
            name: database.at.name.clone(),
            user: database.user.clone(),
            password: database.password.reveal().to_owned(),
        }))
    }
}

/// Compares a database that was made from a dump with what the dump was recorded to hold.
fn compare_copy(database: &ServerDatabase, recorded: &DatabaseSnapshot) -> Result<(), Failure> {
    let difference = Difference::between(&Summary::from(recorded), &database.at.summary()?);
    if difference.is_empty() {
        return Ok(());
    }
    Err(Failure::failed("a database made from its dump is not what was dumped")
        .because_of(difference.lines().join("; "))
        .hint("see whether the server's version or its settings (sql_mode, character sets) changed since"))
}

/// Begins to dump a database.
pub(super) fn begin_dump(at: &ServerUrl) -> Result<BegunDump, DatabaseError> {
    let needs_hold = !at.tables_without_transactions()?.is_empty();
    Ok(BegunDump { dump: at.dump()?, engine: at.server.engine.to_string(), needs_hold })
}

/// Whether connections are waited for any longer.
pub(super) enum Drain {
    /// They are.
    GoOn,
    /// They may go on: the generation is live again.
    NotNeeded,
    /// They had their time.
    End,
}

/// Lets go of a database that is no longer live. Its account may only read from now on, but who is connected may still
/// write: such connections get the time that requests take, and are ended then, before the locks are. Whoever waits
/// for a lock is refused at once, as nobody will look for what he would write.
pub(super) fn drain(
    hold: ServerHold,
    database: &ServerDatabase,
    poll: Duration,
    state: &dyn Fn(Duration) -> Drain,
) -> Result<(), DatabaseError> {
    let before: BTreeSet<u64> = database.sessions()?.into_iter().collect();
    let mut waited = Duration::ZERO;
    loop {
        database.refuse_waiting()?;
        let left: Vec<u64> = database.sessions()?.into_iter().filter(|id| before.contains(id)).collect();
        if left.is_empty() {
            break;
        }
        match state(waited) {
            Drain::GoOn => {}
            Drain::NotNeeded => break,
            Drain::End => {
                database.end_sessions(&left);
                break;
            }
        }
        std::thread::sleep(poll);
        waited += poll;
    }
    hold.release().map(drop)
}
