//! Running a server: initialising, unsealing, keys.

mod generate_root;
mod init;
mod rotate_keys;
mod seal;

use crate::command::{Call, Command, Failure, Group};

pub(super) const GROUP: Group = Group {
    name: "operator",
    synopsis: "Run a server: initialise, unseal, rotate keys",
    help: "These commands are for those who run a server.\n\nInitialise a new one:\n\n$ {p} operator init\n\n\
           Unseal it:\n\n$ {p} operator unseal\n\nRotate the key that new data is encrypted with:\n\n\
           $ {p} operator rotate",
};

pub(super) fn commands() -> impl Iterator<Item = &'static Command> + Clone {
    [init::COMMANDS, seal::COMMANDS, rotate_keys::COMMANDS, generate_root::COMMANDS].into_iter().flatten()
}

/// A key share: the argument, standard input for `-`, or what a person types.
///
/// # Errors
/// Nobody is there to type it.
fn key_share(call: &mut Call<'_>, prompt: &str, what: &str) -> Result<chancery_api::Secret, Failure> {
    let typed = call.arg(0);
    match typed.as_str() {
        "" => {}
        "-" => {
            let text = call.ui.read_stdin();
            let text =
                text.map_err(|reason| Failure::Local(format!("Failed to read from stdin: {reason}")))?;
            return Ok(chancery_api::Secret::new(text.trim()));
        }
        share => return Ok(chancery_api::Secret::new(share)),
    }
    if call.flags.on("non-interactive") {
        return Err(Failure::Local(format!("{what} is needed, and -non-interactive forbids to ask for it")));
    }
    let share = call.ui.ask_secret(prompt).map_err(|reason| {
        Failure::Local(crate::output::at_length(&format!(
            "An error occurred attempting to ask for {what}. The raw error message is shown below, but usually \
             this is because you attempted to pipe a value into the command or you are executing outside of a \
             terminal (tty). If you want to pipe the value, pass \"-\" as the argument to read from stdin. The \
             raw error was: {reason}"
        )))
    })?;
    Ok(chancery_api::Secret::new(share.expose().trim()))
}
