//! Where runs are written down.

use serde::{Deserialize, Serialize};

use super::{Run, RunId, RunState, StepOutput, UpdateError};
use crate::base::SiteName;
use crate::history::{Catalog, Record};

/// Where runs are written down. What a method has written is durable when it returns.
pub trait Journal {
    /// Writes a new run down and gives it the site; an error when another run has it.
    fn begin(&self, run: &Run) -> Result<(), UpdateError>;

    /// Writes down where a run is. A run in a final state gives the site back.
    fn save(&self, run: &Run) -> Result<(), UpdateError>;

    /// Writes down what the step at `place` printed.
    fn save_output(&self, run: &Run, place: usize, output: &StepOutput) -> Result<(), UpdateError>;

    /// The unfinished run of a site.
    fn unfinished(&self, site: &SiteName) -> Result<Option<Run>, UpdateError>;

    /// The runs of a site, the oldest first.
    fn list(&self, site: &SiteName) -> Result<Vec<Run>, UpdateError>;

    /// An error that says what to do when the site has an unfinished run: for everything else that changes a site.
    fn refuse_if_busy(&self, site: &SiteName) -> Result<(), UpdateError> {
        match self.unfinished(site)? {
            None => Ok(()),
            Some(run) => Err(busy(&run)),
        }
    }
}

/// Which run has a site. The key is the site's name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Claim {
    run: RunId,
}

impl Record for Claim {
    const TABLE: &'static str = "run-claims";
    const VERSION: u8 = 1;
}

impl Journal for Catalog {
    fn begin(&self, run: &Run) -> Result<(), UpdateError> {
        self.write(|transaction| {
            if let Some(claim) = transaction.get::<Claim>(run.site.as_str())?
                && let Some(other) = transaction.get::<Run>(&Run::key(&run.site, &claim.run))?
            {
                return Err(busy(&other));
            }
            transaction.put(run.site.as_str(), &Claim { run: run.id.clone() })?;
            transaction.put(&Run::key(&run.site, &run.id), run)?;
            Ok(())
        })
    }

    fn save(&self, run: &Run) -> Result<(), UpdateError> {
        self.write(|transaction| {
            transaction.put(&Run::key(&run.site, &run.id), run)?;
            let claim = transaction.get::<Claim>(run.site.as_str())?;
            if run.state.is_final() && claim.is_some_and(|claim| claim.run == run.id) {
                transaction.remove::<Claim>(run.site.as_str())?;
            }
            Ok(())
        })
    }

    fn save_output(&self, run: &Run, place: usize, output: &StepOutput) -> Result<(), UpdateError> {
        self.write(|transaction| Ok(transaction.put(&StepOutput::key(run, place), output)?))
    }

    fn unfinished(&self, site: &SiteName) -> Result<Option<Run>, UpdateError> {
        match self.get::<Claim>(site.as_str())? {
            Some(claim) => Ok(self.get(&Run::key(site, &claim.run))?),
            None => Ok(None),
        }
    }

    fn list(&self, site: &SiteName) -> Result<Vec<Run>, UpdateError> {
        let runs = Catalog::list::<Run>(self, &format!("{site}/"))?;
        Ok(runs.into_iter().map(|(_, run)| run).collect())
    }
}

fn busy(run: &Run) -> UpdateError {
    let (site, run, state) = (run.site.clone(), run.id.clone(), run.state);
    match state {
        RunState::Running => UpdateError::Running { site, run },
        _ => UpdateError::Interrupted { site, run },
    }
}

/// The unfinished runs of all sites.
pub fn unfinished_runs(catalog: &Catalog) -> Result<Vec<Run>, UpdateError> {
    let claims = catalog.list::<Claim>("")?.into_iter();
    let runs = claims.map(|(site, claim)| catalog.get::<Run>(&format!("{site}/{}", claim.run)));
    Ok(runs.filter_map(Result::transpose).collect::<Result<_, _>>()?)
}

/// The last `count` runs of a site, the newest first.
pub fn newest_runs(catalog: &Catalog, site: &SiteName, count: usize) -> Result<Vec<Run>, UpdateError> {
    Ok(catalog.last(&format!("{site}/"), count)?)
}

/// Marks the runs that died with the daemon as interrupted, and returns all that are: once, when the daemon starts.
pub fn interrupt_running(catalog: &Catalog) -> Result<Vec<Run>, UpdateError> {
    catalog.write(|transaction| {
        let mut interrupted = Vec::new();
        for (site, claim) in transaction.list::<Claim>("")? {
            let key = format!("{site}/{}", claim.run);
            if let Some(mut run) = transaction.get::<Run>(&key)? {
                if run.state == RunState::Running {
                    run.state = RunState::Interrupted;
                    transaction.put(&key, &run)?;
                }
                interrupted.push(run);
            }
        }
        Ok(interrupted)
    })
}
