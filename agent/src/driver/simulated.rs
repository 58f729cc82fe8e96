//! Guests that exist only in memory: for tests of the control plane with many
//! nodes or many faults. No process, no disk, no network; nothing survives the
//! agent. Never offered as `qemu`: its name says what it is.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use nube_types::InstanceId;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use super::{
    Console, Driver, DriverError, GuestEnded, GuestExit, GuestSpec, ImageFiles, Recovered, Run,
};

/// Ends that wait for the reconciler.
const ENDED_QUEUED: usize = 1024;
/// What a simulated guest says on any port.
const BANNER: &[u8] = b"SSH-2.0-nube_simulated_guest\r\n";

/// Simulated guests of one host.
#[derive(Debug)]
pub struct SimulatedDriver {
    /// Differs per driver, as a host's boot id would.
    boot_id: String,
    next_pid: AtomicU32,
    guests: Mutex<HashMap<InstanceId, Guest>>,
    ended: mpsc::Sender<GuestEnded>,
    ended_taken: Mutex<Option<mpsc::Receiver<GuestEnded>>>,
}

#[derive(Debug)]
struct Guest {
    spec: GuestSpec,
    run: Option<Run>,
}

/// State behind a lock is whole after any panic: each change is one call.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Default for SimulatedDriver {
    fn default() -> Self {
        Self::new()
    }
}

impl SimulatedDriver {
    /// A host without guests.
    #[must_use]
    pub fn new() -> Self {
        let (ended, ended_taken) = mpsc::channel(ENDED_QUEUED);
        Self {
            boot_id: format!("simulated-{:08x}", rand::random::<u32>()),
            next_pid: AtomicU32::new(1),
            guests: Mutex::default(),
            ended,
            ended_taken: Mutex::new(Some(ended_taken)),
        }
    }

    /// Ends a run as if the guest had. Nothing happens when it does not run.
    pub async fn end(&self, instance: InstanceId, exit: GuestExit) {
        let run = lock(&self.guests)
            .get_mut(&instance)
            .and_then(|guest| guest.run.take());
        if let Some(run) = run {
            let ended = GuestEnded {
                instance,
                run,
                exit,
            };
            // Nobody listens when the agent is on its way out.
            let _ = self.ended.send(ended).await;
        }
    }

    fn check(&self, instance: InstanceId) -> Result<(), DriverError> {
        match lock(&self.guests).contains_key(&instance) {
            true => Ok(()),
            false => Err(DriverError::Absent(instance)),
        }
    }
}

impl Driver for SimulatedDriver {
    fn name(&self) -> &'static str {
        "simulated"
    }

    async fn recover(&self) -> Result<(Vec<Recovered>, Vec<String>), DriverError> {
        let found = lock(&self.guests)
            .values()
            .map(|guest| {
                let spec = Box::new(guest.spec.clone());
                match &guest.run {
                    Some(run) => Recovered::Running(spec, run.clone()),
                    None => Recovered::Prepared(spec),
                }
            })
            .collect();
        Ok((found, Vec::new()))
    }

    async fn prepare(&self, spec: &GuestSpec, _files: &ImageFiles) -> Result<(), DriverError> {
        let mut guests = lock(&self.guests);
        let run = guests.remove(&spec.instance).and_then(|before| before.run);
        let spec = spec.clone();
        guests.insert(spec.instance, Guest { spec, run });
        Ok(())
    }

    async fn start(&self, instance: InstanceId) -> Result<Run, DriverError> {
        let mut guests = lock(&self.guests);
        let guest = guests
            .get_mut(&instance)
            .ok_or(DriverError::Absent(instance))?;
        let fresh = || Run {
            host_boot_id: self.boot_id.clone(),
            pid: self.next_pid.fetch_add(1, Ordering::Relaxed),
            start_ticks: 1,
        };
        Ok(guest.run.get_or_insert_with(fresh).clone())
    }

    async fn power_button(&self, instance: InstanceId) -> Result<(), DriverError> {
        self.check(instance)?;
        self.end(instance, GuestExit::PoweredOff).await;
        Ok(())
    }

    async fn power_cut(&self, instance: InstanceId) -> Result<(), DriverError> {
        self.check(instance)?;
        let exit = GuestExit::Crashed("its power was cut".to_owned());
        self.end(instance, exit).await;
        Ok(())
    }

    async fn remove(&self, instance: InstanceId) -> Result<(), DriverError> {
        let exit = GuestExit::Crashed("its power was cut".to_owned());
        self.end(instance, exit).await;
        lock(&self.guests).remove(&instance);
        Ok(())
    }

    /// A banner, then silence: enough for tests of tunnels.
    async fn connect(&self, instance: InstanceId, _port: u16) -> Result<TcpStream, DriverError> {
        let fault = |error: std::io::Error| DriverError::host("connect to guest", error);
        let runs = lock(&self.guests)
            .get(&instance)
            .is_some_and(|guest| guest.run.is_some());
        if !runs {
            return Err(DriverError::host("connect to guest", "it does not run"));
        }
        let listener = TcpListener::bind("127.0.0.1:0").await.map_err(fault)?;
        let address = listener.local_addr().map_err(fault)?;
        let (near, far) =
            tokio::try_join!(TcpStream::connect(address), listener.accept()).map_err(fault)?;
        let (mut far, _) = far;
        far.write_all(BANNER).await.map_err(fault)?;
        Ok(near)
    }

    async fn serial_log(
        &self,
        instance: InstanceId,
        bytes_max: u64,
    ) -> Result<Vec<u8>, DriverError> {
        self.check(instance)?;
        let text = format!("{instance} is simulated: it has no serial port\n").into_bytes();
        let surplus = text
            .len()
            .saturating_sub(bytes_max.try_into().unwrap_or(usize::MAX));
        Ok(text[surplus..].to_vec())
    }

    /// The one line, then nothing more until the client leaves.
    async fn follow_log(
        &self,
        instance: InstanceId,
        bytes_max: u64,
    ) -> Result<BoxStream<'static, Bytes>, DriverError> {
        let line = self.serial_log(instance, bytes_max).await?;
        let line = stream::once(async move { Bytes::from(line) });
        Ok(line.chain(stream::pending()).boxed())
    }

    async fn console(&self, instance: InstanceId) -> Result<Console, DriverError> {
        self.check(instance)?;
        let cause = "it is simulated: it has no serial port";
        Err(DriverError::host("open console", cause))
    }

    fn ended(&self) -> mpsc::Receiver<GuestEnded> {
        // A second taker gets a channel that is closed.
        let taken = lock(&self.ended_taken).take();
        taken.unwrap_or_else(|| mpsc::channel(1).1)
    }
}
