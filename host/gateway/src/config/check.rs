//! Checks of the configuration that types cannot express.

use saegis_onem2m::credential::{KeyStrength, PresharedKey};
use saegis_onem2m::id::check_fqdn;
use saegis_policy::Document;
use tracing_subscriber::EnvFilter;

use super::sections::{MAX_RESPONSE, RuleSource};
use super::server_config::Config;

impl Config {
    /// Adds a fault for each invalid option.
    pub(super) fn check(&self, document: &mut Document<'_>) {
        self.check_cse(document);
        self.check_upstream(document);
        self.check_service_subscription(document);
        self.check_maf_peers(document);
        self.artifacts.check(document);
        super::peer::check(&self.peer, &self.cse.identity(), document);
        self.modules.check(self.limits.handshake(), document);
        self.check_limits(document);
        self.websocket.check(document);
        self.mqtt.check(document);
        self.coap.check(document);
        self.check_files(document);
        self.check_log_and_metrics(document);
        self.admin.web.check(document);
        if let Some(mef) = self.role.mef() {
            mef.check(document);
        }
    }

    fn check_cse(&self, document: &mut Document<'_>) {
        let mut fault = |entry: &str, what: &str| document.add_fault(entry, what);
        let name = &self.cse.csebase_name;
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '~' | '-');
        if name.is_empty() || name == "-" || !name.chars().all(plain) {
            fault("cse.csebase-name", &format!("{name:?} is not a resource name"));
        }
        if let Some(sp) = &self.cse.service_provider
            && let Err(e) = check_fqdn(sp)
        {
            fault("cse.service-provider", &format!("{sp:?} {e}"));
        }
    }

    fn check_upstream(&self, document: &mut Document<'_>) {
        let mut fault = |entry: &str, what: &str| document.add_fault(entry, what);
        let Some(upstream) = &self.upstream else { return };
        let url = &upstream.url;
        let plain = matches!(url.scheme_str(), Some("http" | "mqtt"))
            && url.authority().is_some_and(|authority| !authority.as_str().contains('@'))
            && url.path().trim_end_matches('/').is_empty()
            && url.query().is_none();
        if !plain {
            fault(
                "upstream.url",
                &format!("{url} is not of the form http://host:port or mqtt://host:port"),
            );
        }
        if let Some(max) = upstream.max_packet_bytes {
            if url.scheme_str() != Some("mqtt") {
                let what = "has no effect without an MQTT server in upstream.url";
                fault("upstream.max-packet-bytes", what);
            } else if !(1 << 10..1 << 28).contains(&max) {
                fault("upstream.max-packet-bytes", "must be from 1024 to 268435455");
            }
        }
        if upstream.notification_listen.as_ref().is_some_and(|a| !a.is_loopback()) {
            let what = "must be on the loopback interface, such as 127.0.0.1:8081: every process that can \
                        connect to it acts as the upstream CSE";
            fault("upstream.notification-listen", what);
        }
        if upstream.notification_listen.is_none() && upstream.notification_uid.is_some() {
            let what = "has no effect without upstream.notification-listen";
            fault("upstream.notification-uid", what);
        }
    }

    fn check_service_subscription(&self, document: &mut Document<'_>) {
        let mut fault = |entry: &str, what: &str| document.add_fault(entry, what);
        let subscription = &self.service_subscription;
        match subscription.source {
            RuleSource::Remote if !self.peer.iter().any(|peer| peer.register) => {
                let what = "remote: this CSE must register with the IN-CSE that has the rules; add \
                            a [[peer]] with register = true";
                fault("service-subscription.source", what);
            }
            RuleSource::Cse if self.upstream.is_some() => {
                let what = "there is no embedded CSE, because upstream.url names another CSE";
                fault("service-subscription.source", what);
            }
            RuleSource::PolicyFile | RuleSource::Cse | RuleSource::Remote => {}
        }
        if subscription.refresh_seconds == 0 {
            fault("service-subscription.refresh-seconds", "must be at least 1");
        }
    }

    fn check_maf_peers(&self, document: &mut Document<'_>) {
        for (nth, maf) in self.maf_peer.iter().enumerate() {
            let mut fault =
                |what: String| document.add_fault("maf-peer", &format!("{}: {what}", maf.fqdn));
            if self.cse.service_provider.is_none() {
                fault("cse.service-provider must be set: MAFs identify their clients by it".into());
            }
            if self.maf_peer.iter().take(nth).any(|other| other.fqdn == maf.fqdn) {
                fault("is listed twice".into());
            }
            let port = maf.address.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok());
            if port.is_none() {
                fault(format!("address {:?} is not of the form host:port", maf.address));
            }
            if maf.timeout_seconds == 0 {
                fault("timeout-seconds must be at least 1".into());
            }
            if let Some(credential) = &maf.credential
                && let Err(e) = KeyStrength::of(credential.kpsa.expose(), PresharedKey::MIN_OF_MAF)
            {
                fault(format!("its km {e}"));
            }
        }
    }

    fn check_limits(&self, document: &mut Document<'_>) {
        let mut fault = |entry: &str, what: &str| document.add_fault(entry, what);
        let limits = &self.limits;
        for (entry, value) in [
            ("limits.connections", limits.connections as u64),
            ("limits.handshakes", limits.handshakes as u64),
            ("limits.handshakes-per-peer", limits.handshakes_per_peer as u64),
            ("limits.failed-handshakes-per-minute", limits.failed_handshakes_per_minute.into()),
            ("limits.associations-per-credential", limits.associations_per_credential as u64),
            ("limits.first-flight-seconds", limits.first_flight_seconds),
            ("limits.handshake-seconds", limits.handshake_seconds),
            ("limits.idle-seconds", limits.idle_seconds),
            ("limits.content-seconds", limits.content_seconds),
            ("limits.content-bytes", limits.content_bytes as u64),
            ("limits.upstream-seconds", limits.upstream_seconds),
            ("limits.response-seconds", limits.response_seconds),
            ("limits.request-seconds", limits.request_seconds),
            ("limits.request-steps", limits.request_steps),
            ("limits.cse-requests-per-credential", limits.cse_requests_per_credential as u64),
            ("notifications.timeout-seconds", self.notifications.timeout_seconds),
            ("notifications.retention-seconds", self.notifications.retention_seconds),
        ] {
            if value == 0 || value > u64::from(u32::MAX) {
                fault(entry, &format!("must be from 1 to {}", u32::MAX));
            }
        }
        for (entry, bytes) in [
            ("limits.response-bytes", limits.response_bytes),
            ("limits.response-bytes-per-credential", limits.response_bytes_per_credential),
        ] {
            // A semaphore counts them.
            if !(MAX_RESPONSE..=1 << 30).contains(&bytes) {
                let least = MAX_RESPONSE;
                let what = format!(
                    "must be from {least}, the size of the largest response, to 1073741824"
                );
                fault(entry, &what);
            }
        }
        for (entry, value) in [
            ("cse.quota.resources", self.cse.quota.resources),
            ("cse.quota.bytes", self.cse.quota.bytes),
        ] {
            if value == 0 || i64::try_from(value).is_err() {
                fault(entry, "must be at least 1");
            }
        }
        let of_cse = &self.cse.limits;
        for (entry, value, most) in [
            // A change of a limit may remove all instances in one transaction.
            ("cse.limits.instances", of_cse.instances, 100_000),
            ("cse.limits.container-bytes", of_cse.container_bytes, 1 << 30),
            // The largest content of a request.
            ("cse.limits.content-bytes", of_cse.content_bytes, 1 << 20),
            ("cse.limits.resources", of_cse.resources, 1 << 32),
        ] {
            if !(1..=most).contains(&value) {
                fault(entry, &format!("must be from 1 to {most}"));
            }
        }
        if !(1..=3600).contains(&self.policy.load_seconds) {
            fault("policy.load-seconds", "must be from 1 to 3600");
        }
    }

    fn check_files(&self, document: &mut Document<'_>) {
        let mut fault = |entry: &str, what: &str| document.add_fault(entry, what);
        let (audit, decisions) = (&self.audit, &self.decisions);
        for (table, bytes, old_files) in [
            ("audit", audit.file_bytes, audit.retained_files),
            ("decisions", decisions.file_bytes, decisions.retained_files),
        ] {
            if !(64 << 10..=1 << 40).contains(&bytes) {
                fault(&format!("{table}.file-bytes"), "must be from 65536 to 1099511627776");
            }
            if !(1..=1000).contains(&old_files) {
                fault(&format!("{table}.retained-files"), "must be from 1 to 1000");
            }
        }
        if !(decisions.sample > 0.0 && decisions.sample <= 1.0) {
            fault("decisions.sample", "must be greater than 0 and at most 1");
        }
        let of_refusals = audit.refusals_file();
        if decisions.record.is_some() && [&audit.file, &of_refusals].contains(&&decisions.record) {
            fault("decisions.record", "is a file of the audit trail");
        }
        if audit.file.is_some() && audit.file == of_refusals {
            fault("audit.refusals-file", "is the file of the other events");
        }
    }

    fn check_log_and_metrics(&self, document: &mut Document<'_>) {
        let mut fault = |entry: &str, what: &str| document.add_fault(entry, what);
        if let Some(filter) = &self.log.filter
            && let Err(e) = EnvFilter::try_new(filter)
        {
            fault("log.filter", &format!("{filter:?} is not a valid filter: {e}"));
        }
        if self.metrics.address.as_ref().is_some_and(|a| !a.is_loopback()) {
            let what = "must be on the loopback interface, such as 127.0.0.1:9464, because there is no \
                        authentication; for remote access, use a proxy with authentication";
            fault("metrics.address", what);
        }
    }
}
