//! Keys and signatures of minisign, the tool that signs modules.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::command_line::to_end;

/// A minisign key pair without a password.
pub struct Signer {
    public: PathBuf,
    secret: PathBuf,
}

impl Signer {
    /// Creates a key pair of that name in a folder.
    pub fn new(folder: &Path, name: &str) -> Self {
        let signer = Self {
            public: folder.join(format!("{name}.pub")),
            secret: folder.join(format!("{name}.key")),
        };
        let mut command = Command::new("minisign");
        command.args(["-G", "-W", "-p"]).arg(&signer.public).arg("-s").arg(&signer.secret);
        to_end(&mut command).expect(0);
        signer
    }

    /// Returns the file of the public key.
    pub fn public_file(&self) -> &Path {
        &self.public
    }

    /// Returns the public key in base64.
    pub fn public(&self) -> String {
        self.line(1)
    }

    /// Returns the key's number as minisign prints it.
    pub fn id(&self) -> String {
        self.line(0).rsplit(' ').next().expect("it has one").into()
    }

    fn line(&self, nth: usize) -> String {
        let text = std::fs::read_to_string(&self.public).expect("minisign made it");
        text.lines().nth(nth).expect("a key has two lines").into()
    }

    /// Signs a file.
    pub fn sign(&self, file: &Path) {
        self.sign_as(file, &[]);
    }

    /// Signs a file with additional arguments for minisign.
    pub fn sign_as(&self, file: &Path, arguments: &[&str]) {
        let mut command = Command::new("minisign");
        command.arg("-S").args(arguments).arg("-s").arg(&self.secret).arg("-m").arg(file);
        to_end(&mut command).expect(0);
    }
}
