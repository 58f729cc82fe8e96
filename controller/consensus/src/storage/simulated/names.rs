//! The simulated directories: names as they are, and names as a power cut would leave them.
//!
//! Lives here: which path is which file. May not: bytes. Owned by `storage::simulated`.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

/// What a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Node {
    Dir,
    File(usize),
}

/// One change of a directory that is not durable yet.
#[derive(Clone, Debug)]
enum Change {
    Put(PathBuf, Node),
    Gone(PathBuf),
    /// Both names change in one step, as renames do.
    Moved(PathBuf, PathBuf, usize),
}

#[derive(Debug, Default)]
pub(super) struct Names {
    now: BTreeMap<PathBuf, Node>,
    durable: BTreeMap<PathBuf, Node>,
    /// By directory, in order.
    pending: BTreeMap<PathBuf, Vec<Change>>,
}

impl Names {
    pub(super) fn get(&self, path: &Path) -> Option<usize> {
        match self.now.get(path) {
            Some(Node::File(id)) => Some(*id),
            _ => None,
        }
    }

    pub(super) fn exists(&self, path: &Path) -> bool {
        is_root(path) || self.now.contains_key(path)
    }

    pub(super) fn path_of(&self, id: usize) -> Option<PathBuf> {
        let found = self.now.iter().find(|(_, node)| **node == Node::File(id));
        found.map(|(path, _)| path.clone())
    }

    pub(super) fn files(&self) -> Vec<(PathBuf, usize)> {
        let files = self.now.iter().filter_map(|(path, node)| match node {
            Node::File(id) => Some((path.clone(), *id)),
            Node::Dir => None,
        });
        files.collect()
    }

    /// Files with a name now, or after some power cut.
    pub(super) fn reachable(&self) -> BTreeSet<usize> {
        let pending = self.pending.values().flatten().filter_map(|c| match c {
            Change::Put(_, Node::File(id)) | Change::Moved(_, _, id) => Some(*id),
            _ => None,
        });
        let named = self.now.values().chain(self.durable.values());
        let named = named.filter_map(|node| match node {
            Node::File(id) => Some(*id),
            Node::Dir => None,
        });
        named.chain(pending).collect()
    }

    pub(super) fn create(&mut self, path: &Path, id: usize) -> io::Result<()> {
        self.parent_of(path)?;
        self.change(path, Change::Put(path.to_owned(), Node::File(id)));
        Ok(())
    }

    pub(super) fn put_durable(&mut self, path: &Path, id: usize) {
        let dirs = path.ancestors().skip(1).filter(|dir| !is_root(dir));
        let dirs = dirs.map(|dir| (dir.to_owned(), Node::Dir));
        for (name, node) in dirs.chain([(path.to_owned(), Node::File(id))]) {
            self.now.insert(name.clone(), node);
            self.durable.insert(name, node);
        }
    }

    pub(super) fn create_dir(&mut self, path: &Path) -> io::Result<()> {
        self.parent_of(path)?;
        if self.exists(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        self.change(path, Change::Put(path.to_owned(), Node::Dir));
        Ok(())
    }

    pub(super) fn remove(&mut self, path: &Path) -> io::Result<()> {
        self.get(path).ok_or(io::ErrorKind::NotFound)?;
        self.change(path, Change::Gone(path.to_owned()));
        Ok(())
    }

    pub(super) fn remove_dir_all(&mut self, path: &Path) -> io::Result<()> {
        if self.now.get(path) != Some(&Node::Dir) {
            return Err(io::ErrorKind::NotFound.into());
        }
        // Deepest first, as a removal walks.
        let inside: Vec<PathBuf> = self.now.keys().cloned().collect();
        for name in inside.into_iter().rev().filter(|n| n.starts_with(path)) {
            self.change(&name.clone(), Change::Gone(name));
        }
        Ok(())
    }

    pub(super) fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        let id = self.get(from).ok_or(io::ErrorKind::NotFound)?;
        assert_eq!(
            from.parent(),
            to.parent(),
            "only renames in place are modelled"
        );
        self.change(to, Change::Moved(from.to_owned(), to.to_owned(), id));
        Ok(())
    }

    pub(super) fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        if !self.exists(dir) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let inside = self.now.keys().filter(|path| path.parent() == Some(dir));
        let names = inside.filter_map(|path| Some(path.file_name()?.to_str()?.to_owned()));
        Ok(names.collect())
    }

    pub(super) fn sync(&mut self, dir: &Path) -> io::Result<()> {
        if !self.exists(dir) {
            return Err(io::ErrorKind::NotFound.into());
        }
        for change in self.pending.remove(dir).unwrap_or_default() {
            put(&mut self.durable, &change);
        }
        Ok(())
    }

    /// Of each directory's pending changes the first few happened.
    pub(super) fn power_cut(&mut self, random: &mut dyn FnMut() -> u64) {
        for (_, changes) in std::mem::take(&mut self.pending) {
            let kept = random() as usize % (changes.len() + 1);
            for change in &changes[..kept] {
                put(&mut self.durable, change);
            }
        }
        // What lies in a directory whose own name was lost is lost with it.
        let mut reached = BTreeSet::new();
        self.durable.retain(|path, node| {
            let parent = path.parent().unwrap_or(Path::new(""));
            let whole = is_root(parent) || reached.contains(parent);
            if whole && *node == Node::Dir {
                reached.insert(path.clone());
            }
            whole
        });
        self.now.clone_from(&self.durable);
    }

    fn parent_of(&self, path: &Path) -> io::Result<()> {
        let parent = path.parent().unwrap_or(Path::new(""));
        if is_root(parent) || self.now.get(parent) == Some(&Node::Dir) {
            return Ok(());
        }
        Err(io::ErrorKind::NotFound.into())
    }

    fn change(&mut self, path: &Path, change: Change) {
        put(&mut self.now, &change);
        let dir = path.parent().unwrap_or(Path::new("")).to_owned();
        self.pending.entry(dir).or_default().push(change);
    }
}

fn put(names: &mut BTreeMap<PathBuf, Node>, change: &Change) {
    match change {
        Change::Put(path, node) => {
            names.insert(path.clone(), *node);
        }
        Change::Gone(path) => {
            names.remove(path);
        }
        Change::Moved(from, to, id) => {
            names.remove(from);
            names.insert(to.clone(), Node::File(*id));
        }
    }
}

/// The root, and where relative names begin, are always there.
fn is_root(path: &Path) -> bool {
    path == Path::new("/") || path == Path::new("") || path == Path::new(".")
}
