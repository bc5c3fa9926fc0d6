//! Entries of hash maps, put in and taken out so that no failure goes uncounted.
//!
//! Either fails when the lock of the entry's bucket is not to be had: because the program interrupted its holder, or,
//! from Linux 6.15 on (kernel/bpf/rqspinlock.c), because a quarter of a second was not enough, as in a guest whose
//! holder of the lock has its processor taken away. An entry that stays when it should go can speak for the wrong
//! connection later, so it is tried again at once, and counted if that does not help.

use aya_ebpf::btf_maps::{HashMap, LruHashMap};

use crate::counters::count;

const ENOENT: i32 = -2;
const EEXIST: i32 = -17;

/// A hash map's entries.
pub trait Entries<K, V> {
    /// `bpf_map_update_elem`, once.
    fn update(&self, key: &K, value: &V, flags: u64) -> Result<(), i32>;

    /// `bpf_map_lookup_elem`.
    fn find(&self, key: &K) -> Option<*mut V>;

    /// `bpf_map_delete_elem`, once.
    fn delete(&self, key: &K) -> Result<(), i32>;

    /// Puts an entry in, in place of another one of that key. Whether the key has one now; `flags` as in
    /// [`Entries::update`].
    #[inline(always)]
    fn put(&self, key: &K, value: &V, flags: u64) -> bool {
        let result = match self.update(key, value, flags) {
            Err(EEXIST) | Ok(()) => Ok(()),
            Err(_) => self.update(key, value, flags),
        };
        if result.is_err() {
            failed();
        }
        result.is_ok()
    }

    /// Puts an entry in, and gives where it is.
    #[inline(always)]
    fn place(&self, key: &K, value: &V) -> Option<*mut V> {
        if self.put(key, value, 0) { self.find(key) } else { None }
    }

    /// Takes an entry out. Whether there was one.
    #[inline(always)]
    fn take(&self, key: &K) -> bool {
        let result = match self.delete(key) {
            Err(ENOENT) => return false,
            Ok(()) => Ok(()),
            Err(_) => self.delete(key),
        };
        if result.is_err_and(|error| error != ENOENT) {
            failed();
        }
        result.is_ok()
    }
}

#[inline(always)]
fn failed() {
    count(|counters| counters.updates_failed += 1);
}

/// The two kinds of map are alike, but have no trait in common.
macro_rules! entries {
    ($map:ident) => {
        impl<K, V, const MAX_ENTRIES: usize> Entries<K, V> for $map<K, V, MAX_ENTRIES> {
            #[inline(always)]
            fn update(&self, key: &K, value: &V, flags: u64) -> Result<(), i32> {
                self.insert(key, value, flags)
            }

            #[inline(always)]
            fn find(&self, key: &K) -> Option<*mut V> {
                self.get_ptr_mut(key)
            }

            #[inline(always)]
            fn delete(&self, key: &K) -> Result<(), i32> {
                self.remove(key)
            }
        }
    };
}

entries!(HashMap);
entries!(LruHashMap);
