//! One command as it was typed.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use chancery_api::Secret;
use chancery_client::{Answer, Client, Config, ConfigError, Environment, Request, Response};
use tokio::runtime::Runtime;

use super::{Command, Failure, Outcome, policy};
use crate::flags::Flags;
use crate::output::{Doc, Format, field_of, secret_doc, secret_table, warnings_text};
use crate::token_file::TokenFile;
use crate::ui::Ui;

/// What becomes of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// It is sent.
    #[default]
    Send,
    /// It is printed as a curl command.
    Curl,
    /// The policy it needs is printed.
    Policy,
}

/// A command as it was typed, with all it needs to run.
#[derive(Debug)]
pub struct Call<'a> {
    /// The terminal.
    pub ui: &'a mut Ui,
    /// The command.
    pub command: &'static Command,
    /// Its flags.
    pub flags: Flags,
    /// What came after the flags.
    pub args: Vec<String>,
    /// How to print.
    pub format: Format,
    /// What becomes of requests.
    pub mode: Mode,
    client: Option<(Client, Runtime)>,
}

impl<'a> Call<'a> {
    /// A call of `command`.
    pub fn new(
        ui: &'a mut Ui,
        command: &'static Command,
        flags: Flags,
        args: Vec<String>,
        format: Format,
        mode: Mode,
    ) -> Self {
        Self { ui, command, flags, args, format, mode, client: None }
    }

    /// The argument at `index`, trimmed; empty if there is none.
    pub fn arg(&self, index: usize) -> String {
        self.args.get(index).map(|arg| arg.trim().to_owned()).unwrap_or_default()
    }

    /// The argument at `index` as a path: without slashes and blanks around it.
    pub fn path(&self, index: usize) -> String {
        self.arg(index).trim_matches(|c: char| c == '/' || c.is_whitespace()).to_owned()
    }

    /// The argument at `index` as a mount: exactly one slash, at the end.
    pub fn mount(&self, index: usize) -> String {
        format!("{}/", self.path(index))
    }

    /// Whether tables are printed, and with them the sentences for people.
    pub fn is_table(&self) -> bool {
        self.format == Format::Table
    }

    /// The client, made from flags and environment at its first use.
    ///
    /// # Errors
    /// A setting cannot be used.
    pub fn client(&mut self) -> Result<Client, Failure> {
        Ok(self.parts()?.0.clone())
    }

    fn parts(&mut self) -> Result<&(Client, Runtime), Failure> {
        if self.client.is_none() {
            let config = self.config()?;
            let failed = |error: ConfigError| Failure::Server(format!("failed to create client: {error}"));
            let client = Client::new(config).map_err(failed)?;
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let runtime = runtime.map_err(|error| Failure::Local(format!("no runtime: {error}")))?;
            self.client = Some((client, runtime));
        }
        self.client.as_ref().ok_or(Failure::Done(1))
    }

    fn config(&self) -> Result<Config, Failure> {
        let failed = |error: ConfigError| Failure::Server(format!("failed to create client: {error}"));
        // The flags have looked into the environment already; what has no flag comes from here.
        let address = self.flags.non_empty("agent-address").or_else(|| self.flags.non_empty("address"));
        let address = address.map(str::to_owned);
        let overlay = |name: &str| match (name, &address) {
            ("BAO_AGENT_ADDR" | "VAULT_AGENT_ADDR", _) => None,
            ("BAO_ADDR", Some(address)) => Some(address.clone()),
            _ => self.ui.variable(name),
        };
        let mut config = Config::from_env(&overlay).map_err(failed)?;
        // A person at a terminal sees an error at once; a script repeats by itself.
        if self.ui.setting("MAX_RETRIES").is_none() {
            config.max_retries = 0;
        }
        let path = |name: &str| self.flags.non_empty(name).map(PathBuf::from);
        config.ca_cert = path("ca-cert");
        config.ca_path = path("ca-path");
        config.client_cert = path("client-cert");
        config.client_key = path("client-key");
        config.tls_server_name = self.flags.non_empty("tls-server-name").map(str::to_owned);
        config.namespace = self.flags.non_empty("namespace").map(str::to_owned);
        config.danger_skip_verify = self.flags.on("tls-skip-verify");
        config.disable_redirects = self.flags.on("disable-redirects");
        config.wrap_ttl = self.flags.duration("wrap-ttl").filter(|ttl| !ttl.is_zero());
        config.headers = self.headers()?;
        if config.token.is_none() {
            config.token = self.stored_token()?;
        }
        Ok(config)
    }

    fn headers(&self) -> Result<BTreeMap<String, String>, Failure> {
        let mut headers = self.flags.pairs("header");
        for name in headers.keys() {
            if name.to_ascii_lowercase().starts_with("x-vault-") {
                return Err(Failure::Server(format!(
                    "failed to setup Headers[{name}]: Header starting by 'X-Vault-' are for internal usage only"
                )));
            }
        }
        if let Some(mfa) = self.flags.non_empty("mfa") {
            headers.insert("X-Vault-Mfa".to_owned(), mfa.to_owned());
        }
        if self.flags.on("policy-override") {
            headers.insert("X-Vault-Policy-Override".to_owned(), "true".to_owned());
        }
        Ok(headers)
    }

    /// The token file, if there is a home to hold it.
    pub fn token_file(&self) -> Option<TokenFile> {
        self.ui.home.as_deref().map(TokenFile::in_home)
    }

    fn stored_token(&self) -> Result<Option<Secret>, Failure> {
        let Some(file) = self.token_file() else { return Ok(None) };
        file.read().map_err(Failure::Local)
    }

    /// The token that requests carry: the environment's, or the stored one.
    ///
    /// # Errors
    /// The token file cannot be read.
    pub fn token(&self) -> Result<Option<Secret>, Failure> {
        match self.ui.setting("TOKEN") {
            Some(token) => Ok(Some(Secret::new(token.trim()))),
            None => self.stored_token(),
        }
    }

    /// Sends a request, or prints it.
    ///
    /// # Errors
    /// The server refused or is not there; or the request was printed, and the command is done.
    pub fn send(&mut self, request: &Request) -> Result<Response, Failure> {
        self.show_instead(request)?;
        let (client, runtime) = self.parts()?;
        runtime.block_on(client.send(request)).map_err(Failure::from)
    }

    /// Sends a request to another server.
    ///
    /// # Errors
    /// That server refused or is not there.
    pub fn send_by(&mut self, client: &Client, request: &Request) -> Result<Response, Failure> {
        let (_, runtime) = self.parts()?;
        runtime.block_on(client.send(request)).map_err(Failure::from)
    }

    /// Sends a request and decodes the answer.
    ///
    /// # Errors
    /// As [`Self::send`]; and the answer is not in Vault's frame.
    pub fn answer(&mut self, request: &Request) -> Result<Option<Answer>, Failure> {
        self.show_instead(request)?;
        let (client, runtime) = self.parts()?;
        runtime.block_on(client.answer(request)).map_err(Failure::from)
    }

    /// Waits, for what the server does meanwhile.
    ///
    /// # Errors
    /// There is no runtime.
    pub fn sleep(&mut self, time: Duration) -> Result<(), Failure> {
        let (_, runtime) = self.parts()?;
        runtime.block_on(async { tokio::time::sleep(time).await });
        Ok(())
    }

    fn show_instead(&mut self, request: &Request) -> Result<(), Failure> {
        let text = match self.mode {
            Mode::Send => return Ok(()),
            Mode::Policy => policy::needed(request),
            Mode::Curl => {
                let program = self.ui.program.clone();
                let client = self.client()?;
                client.prepare(request).curl(client.config(), &program)
            }
        };
        self.ui.output(&text);
        Err(Failure::Done(0))
    }

    /// Prints an answer: one field of it, or all in the chosen format.
    ///
    /// # Errors
    /// The field is not there, or the format does not suit.
    pub fn print_answer(&mut self, answer: &Answer) -> Outcome {
        if let Some(name) = self.flags.non_empty("field").map(str::to_owned) {
            self.print_warnings(answer);
            let doc = field_of(answer, &name);
            return self.print_field(&name, doc);
        }
        match self.format {
            Format::Table => {
                self.print_warnings(answer);
                if let Some(table) = secret_table(answer) {
                    self.ui.output(&table);
                }
            }
            format => {
                let text = format.render(&secret_doc(answer))?;
                self.ui.output(text.trim_end_matches('\n'));
            }
        }
        Ok(0)
    }

    /// Shows the answer's warnings, to people.
    pub fn print_warnings(&mut self, answer: &Answer) {
        if self.is_table()
            && let Some(text) = warnings_text(answer)
        {
            self.ui.warn(&text);
        }
    }

    /// Prints one value, for a script.
    ///
    /// # Errors
    /// The value is not there.
    pub fn print_field(&mut self, name: &str, value: Option<Doc>) -> Outcome {
        let value = value.filter(|value| *value != Doc::Null);
        let missing = || Failure::Local(format!("Field {name:?} not present in secret"));
        let mut text = self.format.render(&value.ok_or_else(missing)?)?;
        if self.ui.stdout_is_terminal && !text.ends_with('\n') {
            text.push('\n');
        }
        self.ui.raw(text.as_bytes());
        Ok(0)
    }

    /// Prints a document in the chosen format, which is not the table.
    ///
    /// # Errors
    /// The format does not suit.
    pub fn print_doc(&mut self, doc: &Doc) -> Outcome {
        let text = self.format.render(doc)?;
        self.ui.output(text.trim_end_matches('\n'));
        Ok(0)
    }

    /// `data` of an answer read into a type.
    ///
    /// # Errors
    /// As [`Self::send`]; and the data has another shape.
    pub fn data<T: for<'de> serde::Deserialize<'de>>(&mut self, request: &Request) -> Result<T, Failure> {
        Ok(self.send(request)?.data()?)
    }
}
