//! Processes that end with the test, whatever happens.

use std::net::{TcpListener, UdpSocket};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

/// Whether this runs in a guest of `scripts/vm-test`: in software, about ten times slower.
pub fn virtual_machine() -> bool {
    std::env::var_os("VM").is_some()
}

/// How long to wait for what is sure to come.
pub fn patience() -> Duration {
    Duration::from_secs(if virtual_machine() { 180 } else { 20 })
}

/// Waits until `condition` holds; panics when it does not come.
pub fn wait_until(what: &str, condition: impl FnMut() -> bool) {
    assert!(comes_true(condition), "waited in vain until {what}");
}

/// Waits until `condition` holds; `false`: it does not come.
pub fn comes_true(mut condition: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + patience();
    while !condition() {
        if Instant::now() >= deadline {
            return false;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    true
}

/// A TCP port of the loopback interface that nobody listens on.
pub fn unused_port() -> u16 {
    unused_ports::<1>()[0]
}

/// Ports that nobody uses, TCP or UDP, over IPv4.
pub fn unused_ports<const N: usize>() -> [u16; N] {
    // All are held until the last is chosen, so that they differ.
    let held: Vec<_> = std::iter::repeat_with(|| TcpListener::bind("127.0.0.1:0").expect("no free port"))
        .filter(|listener| UdpSocket::bind(listener.local_addr().expect("bound")).is_ok())
        .take(N)
        .collect();
    std::array::from_fn(|index| held[index].local_addr().expect("bound").port())
}

/// Sends a signal to one process.
pub fn signal(pid: u32, signal: Signal) {
    kill_process(to_pid(pid), signal).unwrap_or_else(|error| panic!("cannot signal {pid}: {error}"));
}

/// The children of a process, now.
pub fn children_of(pid: u32) -> Vec<u32> {
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    children.split_whitespace().map(|child| child.parse().expect("a pid")).collect()
}

/// Runs a command to its end; panics if it fails.
pub fn run(command: &mut Command) -> Output {
    let output =
        command.stdin(Stdio::null()).output().unwrap_or_else(|error| panic!("cannot run {command:?}: {error}"));
    assert!(
        output.status.success(),
        "{command:?}: {}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

fn to_pid(pid: u32) -> Pid {
    Pid::from_raw(i32::try_from(pid).expect("a pid")).expect("not 0")
}

/// A command with the same program, arguments, variables and directory that the kernel kills when the test dies without
/// unwinding: setpriv asks for that, and then executes it under the same pid.
pub fn bound(command: &Command) -> Command {
    let mut bound = Command::new("setpriv");
    bound.args(["--pdeathsig", "KILL", "--"]).arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        bound.env(name, value.expect("variables are only set"));
    }
    if let Some(directory) = command.get_current_dir() {
        bound.current_dir(directory);
    }
    bound
}

/// A process with its own process group. Dropped, the whole group is ended: politely, then by force.
pub struct Server {
    child: Child,
    ending: Signal,
}

impl Server {
    /// Starts a command; `ending` is the signal that ends it.
    pub fn start(command: &Command, ending: Signal) -> Self {
        Self::spawn(bound(command).stdin(Stdio::null()), ending)
    }

    /// Starts a command as it is, with its own standard streams.
    pub fn spawn(command: &mut Command, ending: Signal) -> Self {
        use std::os::unix::process::CommandExt as _;
        let child = command.process_group(0).spawn();
        Self { child: child.unwrap_or_else(|error| panic!("cannot start {command:?}: {error}")), ending }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its standard streams.
    pub fn streams(&mut self) -> &mut Child {
        &mut self.child
    }

    /// Its exit status, once it has ended.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("own child")
    }

    /// Waits for its end.
    pub fn wait(&mut self, what: &str) -> ExitStatus {
        let mut status = None;
        wait_until(&format!("{what} ends"), || {
            status = self.ended();
            status.is_some()
        });
        status.expect("waited for")
    }

    /// Ends it and waits for its end.
    pub fn stop(&mut self, what: &str) -> ExitStatus {
        if self.ended().is_none() {
            signal(self.pid(), self.ending);
        }
        self.wait(what)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let group = to_pid(self.pid());
        if self.ended().is_none() {
            let _ = kill_process(group, self.ending);
            let deadline = Instant::now() + patience() / 4;
            while self.ended().is_none() && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        // Nothing of the group may outlive the test, not even children whose parent is gone already.
        let _ = kill_process_group(group, Signal::KILL);
        let _ = self.child.wait();
    }
}
