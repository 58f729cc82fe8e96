//! libFuzzer's door: any target, by NUBE_FUZZ_TARGET.

#![no_main]

use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use nube_fuzz::Target;

fn chosen() -> Target {
    static CHOSEN: OnceLock<Target> = OnceLock::new();
    *CHOSEN.get_or_init(|| {
        let name = std::env::var("NUBE_FUZZ_TARGET").unwrap_or_default();
        let known = nube_fuzz::TARGETS.iter().map(|(name, _)| *name);
        let known: Vec<&str> = known.collect();
        nube_fuzz::target(&name)
            .unwrap_or_else(|| panic!("NUBE_FUZZ_TARGET=`{name}`: one of {known:?}"))
    })
}

fuzz_target!(|bytes: &[u8]| chosen()(bytes));
