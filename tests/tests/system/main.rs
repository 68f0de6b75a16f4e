//! System suites that drive the real gateway from outside. They are one program, because linking
//! each file separately takes minutes. Each folder covers one area of the gateway.

/// TLS: accepted handshakes, and the lifetime and end of associations.
mod handshake {
    mod certificate_refusals;
    mod certificates;
    mod closing;
    mod idle;
    mod limits;
    mod malformed_certificates;
    mod proxy_protocol;
    mod psk;
    mod raw_public_keys;
    mod resumption;
}

/// Identity of entities: originators, AE-IDs, registrations.
mod identity {
    mod ae_id_reuse;
    mod impersonation;
    mod impersonation_forms;
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
    mod guards;
    mod missing_files;
    mod policy_files;
    mod reload;
    mod repeated_allowances;
    mod rollout;
    mod shadows;
}

/// WebAssembly modules, their imports, and their distribution.
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
    mod access_rules;
    mod asynchronous_requests;
    mod batches;
    mod blocking_updates;
    mod cbor_notifications;
    mod compaction;
    mod discovery_filters;
    mod flex_containers;
    mod forwarding;
    mod http_binding;
    mod locations;
    mod management;
    mod monitors;
    mod notification_relay;
    mod notifications;
    mod observers;
    mod primitives;
    mod request_budget;
    mod request_subscriptions;
    mod retries;
    mod schedules;
    mod second_association;
    mod subscription_policies;
    mod time_series;
    mod unread_responses;
    mod upstream;
    mod upstream_mqtt;
}

/// The grounds on which the embedded CSE allows a request, beyond its access control policies.
mod authorization {
    mod lights;
    mod roles;
    mod token_command;
    mod token_refusals;
    mod tokens;
}

/// The WebSocket binding.
mod websocket {
    mod hostile;
    mod notifications;
    mod other_clients;
    mod primitives;
    mod unread;
    mod waiting;
}

/// The MQTT binding.
mod mqtt {
    mod associations;
    mod hostile;
    mod impersonation;
    mod mosquitto;
    mod notifications;
    mod other_clients;
    mod primitives;
    mod sessions;
    mod unread;
}

/// The CoAP binding over DTLS.
mod coap {
    mod associations;
    mod command_line;
    mod fragment_length;
    mod hostile;
    mod impersonation;
    mod libcoap;
    mod loss;
    mod notifications;
    mod other_clients;
    mod points_of_access;
}

mod enrollment;
mod maf;
mod peers;

/// Commands, telemetry and reliability for operators.
mod operations {
    mod admin;
    mod ae_bindings;
    mod audit;
    mod audit_chain;
    mod backup;
    mod certs_command;
    mod command_line;
    mod connection_threads;
    mod cse_command;
    mod devices;
    mod event_names;
    mod explain;
    mod faults;
    mod hardening;
    mod lifecycle;
    mod listen_addresses;
    mod monitoring;
    mod resource_faults;
    mod socket_activation;
    mod storms;
    mod systemd_unit;
    mod top;
    mod upstream_state;
    mod web;
    mod web_browser;
    mod web_devices;
    mod web_devices_browser;
    mod web_hostile;
    mod web_load;
    mod web_other_sites;
    mod web_policy;
    mod web_remote;
    mod web_requests;
    mod web_screenshots;
    mod worked_example;
}
