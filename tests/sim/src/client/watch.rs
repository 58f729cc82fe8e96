//! Watchers: each follows the whole cell at one controller after the other, by its last whole
//! revision, on the real history of that controller.

use rand::Rng;

use crate::judge::reference::told;
use crate::world::{Event, World};

impl World {
    /// A watcher looks for news, mostly where it looked before.
    pub(crate) fn watch(&mut self, watcher: usize) {
        let pause = self.random.random_range(50..400);
        self.after(pause, Event::Watch { watcher });
        let count = self.controllers.len();
        let turn = self.now_ms / 5_000 + watcher as u64;
        let home = usize::try_from(turn).unwrap_or(0) % count;
        let controller = &mut self.controllers[home];
        if controller.core.is_none() || controller.paused_until_ms > self.now_ms {
            return;
        }
        let past = controller.history.now();
        let position = self.judge.watch.position(watcher);
        if past.head < position {
            // This controller is behind: it has nothing new to tell.
            return;
        }
        let Ok(news) = past.after(position) else {
            self.judge
                .marks
                .hit("a watcher was told that the past is compacted");
            let state = &controller.state;
            let (reference, index) = (&self.judge.reference, state.index);
            return self.judge.watch.begin(watcher, reference, index);
        };
        let mut moved = false;
        for revision in news {
            let shown = revision.shown(&controller.state).iter();
            let seen = shown.filter_map(told).collect();
            self.judge.watch.told(watcher, revision.index, seen);
            moved = true;
        }
        self.judge.watch.reached(watcher, past.head);
        let before = self.watched_at.insert(watcher, home);
        if moved {
            if before.is_some_and(|before| before != home) {
                let mark = "a watcher went on at another controller";
                self.judge.marks.hit(mark);
            }
            self.note("watched", watcher as u64, past.head);
        }
    }
}
