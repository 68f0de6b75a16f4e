//! The suites: the real gateway, driven from outside. One program, for linking each file by itself takes
//! minutes; a folder for each part of what a gateway does.

/// TLS: which handshakes become associations, how long they last, and how they end.
mod handshake {
    mod certificate_refusals;
    mod certificates;
    mod closing;
    mod idle;
    mod limits;
    mod psk;
}

/// Who an entity is: originators, AE-IDs, registrations.
mod identity {
    mod ae_id_reuse;
    mod impersonation;
    mod model;
    mod power_cuts;
    mod registration;
    mod service_subscription;
}

/// Policy files and generations.
mod policy {
    mod certificate_reload;
    mod check_command;
    mod decisions;
    mod expiry;
    mod missing_files;
    mod policy_files;
    mod reload;
    mod rollout;
    mod shadows;
}

/// WebAssembly modules, what they may import, and where they come from.
mod modules {
    mod artifacts;
    mod capabilities;
    mod contract;
    mod io;
    mod loading;
    mod module_command;
    mod signatures;
}

/// Requests: to the embedded CSE, to a CSE behind the gateway, and to AEs.
mod cse {
    mod asynchronous_requests;
    mod http_binding;
    mod notification_relay;
    mod notifications;
    mod primitives;
    mod request_budget;
    mod second_association;
    mod unread_responses;
    mod upstream;
}

mod maf;
mod peers;

/// What an operator does with a gateway, sees of it, and has to expect of it.
mod operations {
    mod admin;
    mod audit;
    mod certs_command;
    mod event_names;
    mod faults;
    mod hardening;
    mod lifecycle;
    mod listen_addresses;
    mod monitoring;
    mod socket_activation;
    mod storms;
    mod systemd_unit;
    mod worked_example;
}
