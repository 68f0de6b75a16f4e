//! `saegis completions` and `saegis man`: completions of shells, and manual pages.

use std::io;
use std::path::PathBuf;

use clap::Command;
use clap_complete::Shell;

/// Arguments of `saegis completions`.
#[derive(clap::Args)]
pub struct Completions {
    /// The shell
    shell: Shell,
}

/// Arguments of `saegis man`.
#[derive(clap::Args)]
pub struct Man {
    /// Folder for the pages, one for each command; it is created
    #[arg(long)]
    folder: PathBuf,
}

/// Prints the completions of a shell.
///
/// # Errors
/// Fails if standard output is closed.
pub fn completions(args: &Completions, mut command: Command) -> io::Result<u8> {
    let mut text = Vec::new();
    clap_complete::generate(args.shell, &mut command, "saegis", &mut text);
    io::Write::write_all(&mut io::stdout(), &text)?;
    Ok(0)
}

/// Writes the manual pages.
///
/// # Errors
/// Fails if a page cannot be written.
pub fn man(args: &Man, command: Command) -> io::Result<u8> {
    std::fs::create_dir_all(&args.folder)?;
    clap_mangen::generate_to(command, &args.folder)?;
    Ok(0)
}
