//! What binutils say of a file: the independent witness.

#[path = "fetched.rs"]
mod fetched;

use std::{collections::BTreeMap, path::PathBuf, process::Command};

pub use fetched::fetched;

use symbols::{Function, Site};

/// What `objdump` and `readelf` say.
pub struct Disassembly {
    /// Text by address, for all of .text.
    pub text: BTreeMap<u64, String>,
    /// Start and end of each exported function.
    pub functions: BTreeMap<String, (u64, u64)>,
    /// Address minus file offset of the code.
    pub bias: u64,
}

impl Disassembly {
    pub fn of(path: &PathBuf) -> Self {
        let code =
            run(Command::new("objdump").args(["-d", "-M", "intel", "--no-show-raw-insn", "-j", ".text"]).arg(path));
        let text = code.lines().filter_map(|line| {
            let (address, text) = line.split_once(":\t")?;
            let text = text.split('<').next()?.split('#').next()?;
            let words: Vec<_> = text.split_whitespace().collect();
            Some((u64::from_str_radix(address.trim(), 16).ok()?, words.join(" ")))
        });
        let symbols = run(Command::new("readelf").args(["-W", "--dyn-syms"]).arg(path));
        let functions = symbols.lines().filter_map(|line| {
            let words: Vec<_> = line.split_whitespace().collect();
            let &[_, address, size, "FUNC", _, _, section, name, ..] = words.as_slice() else { return None };
            let address = u64::from_str_radix(address, 16).ok().filter(|_| section != "UND")?;
            let name = name.split('@').next()?.to_owned();
            Some((name, (address, address + size.parse::<u64>().ok()?)))
        });
        let segments = run(Command::new("readelf").args(["-W", "-l"]).arg(path));
        let code = segments.lines().find(|line| line.contains("LOAD") && line.contains("R E")).unwrap();
        let hex: Vec<u64> =
            code.split_whitespace().filter_map(|word| u64::from_str_radix(word.strip_prefix("0x")?, 16).ok()).collect();
        Self { text: text.collect(), functions: functions.collect(), bias: hex[1] - hex[0] }
    }

    pub fn function(&self, name: &str) -> Vec<(u64, &str)> {
        let &(start, end) = self.functions.get(name).unwrap();
        self.text.range(start..end).map(|(address, text)| (*address, text.as_str())).collect()
    }

    /// The instruction under a site.
    pub fn at(&self, site: &Site) -> (u64, &str) {
        let address = site.offset.0 + self.bias;
        (address, self.text.get(&address).unwrap_or_else(|| panic!("no instruction starts at {address:#x}")))
    }
}

pub fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error} (Debian package binutils)"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

pub fn only<T>(items: &[T]) -> &T {
    assert_eq!(items.len(), 1);
    &items[0]
}

/// Whether a function is where its symbol says.
pub fn starts_at(code: &Disassembly, function: &Function) -> bool {
    code.functions[&function.name].0 == function.symbol_offset.0 + code.bias
}
