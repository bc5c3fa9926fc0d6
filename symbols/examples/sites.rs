//! Print what is found in each file named on the command line.
#![expect(clippy::print_stdout, reason = "it is what it is for")]

use std::{env, error::Error, fs};

fn main() -> Result<(), Box<dyn Error>> {
    for path in env::args().skip(1) {
        println!("{path}");
        for library in symbols::tls_libraries(&fs::read(&path)?)? {
            println!("  {} {}", library.kind.name(), library.version.as_deref().unwrap_or("(version not stated)"));
            let inner = library.inner.iter().map(|inner| &inner.function);
            for function in library.functions.iter().chain(inner) {
                println!("    {} {:?} {:?}", function.name, function.role, function.arguments);
                function.enter.iter().for_each(|site| println!("      enter {site}"));
                match &function.exit {
                    symbols::Exit::Through(name) => println!("      goes on to {name}"),
                    symbols::Exit::Return(site) => println!("      return probe at {site}"),
                    exit => exit.sites().iter().for_each(|site| println!("      exit {site}")),
                }
            }
            library.blind.iter().for_each(|reason| println!("    blind: {reason}"));
        }
    }
    Ok(())
}
