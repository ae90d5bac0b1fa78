//! Which function does what is asked.

use super::Daemon;
use crate::control::{Caller, Events, Failure, Handler, Reply, Request, Response};

impl Handler for Daemon {
    fn handle(&self, caller: &Caller, request: Request, events: &dyn Events) -> Reply {
        if self.is_stopping() && !matches!(request, Request::Status(_)) {
            return Err(
                Failure::refused("the daemon is stopping").hint("start it again and repeat the command")
            );
        }
        log::info!("{} asks: {request:?}", caller.user);
        // Whatever a command puts into the store or takes out of it stays there until it ends.
        let _referring = match &request {
            Request::Status(_) | Request::Stop(_) | Request::Prune(_) | Request::Gc(_) => None,
            // It waits until nobody else does, as a collection.
            Request::Log(log) if log.space => None,
            _ => Some(self.store.trees.objects.referring()),
        };
        let reply = self.answer(caller, request, events);
        if let Err(failure) = &reply {
            log::info!("{} is answered: {}", caller.user, failure.message);
        }
        reply
    }
}

impl Daemon {
    fn answer(&self, caller: &Caller, request: Request, events: &dyn Events) -> Reply {
        Ok(match request {
            Request::Status(_) => Response::Status(self.status()?),
            Request::Stop(_) => Response::Stop(self.stop()),
            Request::PlatformAdd(request) => Response::PlatformAdd(self.platform_add(&request)?),
            Request::PlatformList(_) => Response::PlatformList(self.platform_list()?),
            Request::PlatformShow(request) => Response::PlatformShow(self.platform_show(&request.platform)?),
            Request::PlatformVerify(request) => Response::PlatformVerify(self.platform_verify(&request)?),
            Request::PlatformRemove(request) => {
                Response::PlatformRemove(self.platform_remove(&request.platform)?)
            }
            Request::SiteImport(request) => Response::SiteImport(self.site_import(caller, &request, events)?),
            Request::SiteList(_) => Response::SiteList(self.site_list()?),
            Request::SiteShow(request) => Response::SiteShow(self.site_show(&request.site)?),
            Request::SiteSet(request) => Response::SiteSet(self.site_set(&request)?),
            Request::SiteRemove(request) => Response::SiteRemove(self.site_remove(&request)?),
            Request::SnapshotTake(request) => {
                Response::SnapshotTake(self.snapshot_take(caller, &request, events)?)
            }
            Request::Log(request) => Response::Log(self.snapshot_log(&request, events)?),
            Request::Show(request) => Response::Show(self.snapshot_show(&request.snapshot)?),
            Request::Diff(request) => Response::Diff(self.diff(&request, events)?),
            Request::Tag(request) => Response::Tag(self.tag(&request)?),
            Request::SiteClone(request) => Response::SiteClone(self.site_clone(caller, &request, events)?),
            Request::Deploy(request) => Response::Deploy(self.deploy(caller, &request, events)?),
            Request::Cutover(request) => Response::Cutover(self.cutover(caller, &request, events)?),
            Request::Rollback(request) => Response::Rollback(self.rollback(caller, &request, events)?),
            Request::Restore(request) => Response::Restore(self.restore(caller, &request, events)?),
            Request::Readonly(request) => Response::Readonly(self.readonly(&request)?),
            Request::Vhost(request) => Response::Vhost(self.vhost(&request)?),
            Request::Update(request) => Response::Update(self.update(caller, request, events)?),
            Request::RunList(request) => Response::RunList(self.run_list(&request)?),
            Request::RunShow(request) => Response::RunShow(self.run_show(&request)?),
            Request::DatabaseDump(request) => Response::DatabaseDump(self.database_dump(&request, events)?),
            Request::DatabaseRestore(request) => {
                Response::DatabaseRestore(self.database_restore(caller, &request, events)?)
            }
            Request::DatabaseClone(request) => {
                Response::DatabaseClone(self.database_clone(caller, &request, events)?)
            }
            Request::Verify(request) => Response::Verify(self.verify(&request, events)?),
            Request::SiteVerify(request) => Response::SiteVerify(self.site_verify(&request)?),
            Request::DatabaseVerify(request) => Response::DatabaseVerify(self.database_verify(&request)?),
            Request::Prune(request) => Response::Prune(self.prune(&request, events)?),
            Request::Gc(_) => Response::Gc(self.collect(events)?),
            Request::Send(request) => Response::Send(self.send(&request, events)?),
            Request::Receive(request) => Response::Receive(self.receive(&request, events)?),
        })
    }
}
