//! The rules that the protocol rests on, each of which can be broken, and the
//! bounds of the walk.

/// What everybody does. Each field is one rule; `Rules::default()` is as built.
#[derive(Clone, Debug)]
pub struct Rules {
    /// The host counts its lease from the sending of the heartbeat, not from the
    /// receipt of the answer.
    pub counts_from_sending: bool,
    /// A leader that just became ready waits as if it had granted just then.
    pub new_leader_waits: bool,
    /// A grant needs a confirmation of leadership that began after the heartbeat
    /// had arrived.
    pub confirms: bool,
    /// The leader's wait is cut short by so much.
    pub wait_cut_ms: u64,
    /// From the decision to fence on, nothing is granted.
    pub pending_blocks: bool,
    /// A leader that knows of a committed fence grants nothing on a view from
    /// before it.
    pub fence_is_remembered: bool,
    /// A lease counts with a list of the same fence alone.
    pub same_fence: bool,
    /// Nothing is granted to a host that is committed silent.
    pub none_while_silent: bool,
    /// Nothing is granted before the list of the same view was sent.
    pub list_goes_first: bool,
    /// The fencer cuts the guest at the end, whatever became of the agent.
    pub fencer: bool,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            counts_from_sending: true,
            new_leader_waits: true,
            confirms: true,
            wait_cut_ms: 0,
            pending_blocks: true,
            fence_is_remembered: true,
            same_fence: true,
            none_while_silent: true,
            list_goes_first: true,
            fencer: true,
        }
    }
}

/// How far the walk goes. Time goes in ticks; in each the clocks of controllers
/// and of the host advance by their own amounts.
#[derive(Clone, Debug)]
pub struct Bounds {
    /// A tick on the controllers' clocks.
    pub leader_tick_ms: u64,
    /// A tick on the host's clock.
    pub host_tick_ms: u64,
    /// Ticks.
    pub ticks: u8,
    /// Leaders one after the other.
    pub terms: u8,
    /// Heartbeats to leaders that are obeyed.
    pub beats: u8,
    /// Entries of the log.
    pub entries: u8,
    /// Fences.
    pub fences: u64,
    /// Streams that end.
    pub breaks: u8,
    /// Deaths of the agent.
    pub deaths: u8,
}
