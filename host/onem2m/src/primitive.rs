//! Request and response primitives (TS-0004 clause 6.4), as far as a gateway needs them.

use std::net::IpAddr;

use bytes::Bytes;

pub use crate::content::{Content, ContentError, NamedOriginator, SecurityInformation};
use crate::id::CredentialId;
use crate::parameter::Parameters;
use crate::resource::ResourceType;
use crate::role::AssignedRole;
use crate::rsc::Rsc;
use crate::target::Target;
use crate::token::VerifiedToken;

/// The operation of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operation {
    /// Creates a resource.
    Create,
    /// Retrieves a resource, or discovers resources.
    Retrieve,
    /// Updates a resource.
    Update,
    /// Deletes a resource.
    Delete,
    /// Notifies the target.
    Notify,
}

impl Operation {
    /// All operations.
    pub const ALL: [Self; 5] =
        [Self::Create, Self::Retrieve, Self::Update, Self::Delete, Self::Notify];

    /// Returns the name of the operation, in lower case.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Retrieve => "retrieve",
            Self::Update => "update",
            Self::Delete => "delete",
            Self::Notify => "notify",
        }
    }
}

/// A request primitive.
#[derive(Debug, Clone)]
pub struct RequestPrimitive {
    /// Operation.
    pub operation: Operation,
    /// Target of the operation.
    pub to: Target,
    /// From, as written by the originator; `None` if absent.
    pub from: Option<String>,
    /// Request Identifier.
    pub request_id: String,
    /// Release Version Indicator; `None` in releases before 3.
    pub release: Option<String>,
    /// Resource type of a create.
    pub resource_type: Option<u16>,
    /// Representation in JSON.
    pub content: Option<Content>,
    /// Response Type, Result Content, Filter Criteria and the like, by their short names and in
    /// order (TS-0004 clauses 8.2.2 and 8.2.5). Any of them may be a list, so a value has one or
    /// more elements.
    pub options: Vec<(String, Vec<String>)>,
    /// Further parameters.
    pub parameters: Parameters,
    /// Source address of the packets that carried the request (rq_ip of TS-0003 clause 7.1.2), if
    /// known. It is not part of the message: the server that accepted the connection sets it.
    pub source_address: Option<IpAddr>,
    /// Credential of the security association that carried the request, if any. It is not part of
    /// the message: the gateway sets it.
    pub credential: Option<AssociationCredential>,
    /// Claimed roles that policy assigns to the originator. They are not part of the message: the
    /// gateway sets them.
    pub roles: Vec<AssignedRole>,
    /// Verified tokens of the originator. They are not part of the message: the gateway sets them.
    pub tokens: Vec<VerifiedToken>,
}

/// The credential of the security association that carried a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AssociationCredential {
    /// Credential-ID.
    pub id: CredentialId,
    /// Whether the credential names no AE-ID and gets one when the AE registers.
    pub learns_ae_id: bool,
}

impl RequestPrimitive {
    /// Creates a request of this process with a target and an originator only.
    #[must_use]
    pub fn own(operation: Operation, to: Target, from: String, request_id: String) -> Self {
        Self {
            operation,
            to,
            from: Some(from),
            request_id,
            release: Some("3".into()),
            resource_type: None,
            content: None,
            options: Vec::new(),
            parameters: Parameters::default(),
            source_address: None,
            credential: None,
            roles: Vec::new(),
            tokens: Vec::new(),
        }
    }

    /// Adds a representation. A create also gets the resource type; an existing resource has one
    /// already.
    ///
    /// # Errors
    /// Returns an error if `content` is not a representation.
    pub fn with_content(
        self,
        kind: ResourceType,
        content: &serde_json::Value,
    ) -> Result<Self, ContentError> {
        let resource_type = (self.operation == Operation::Create).then(|| kind.number());
        let content = Some(Content::parse(content.to_string().into())?);
        Ok(Self { resource_type, content, ..self })
    }

    /// Returns the length of the content in JSON, in bytes.
    #[must_use]
    pub fn content_length(&self) -> usize {
        self.content.as_ref().map_or(0, |content| content.bytes().len())
    }

    /// Returns whether the request creates a resource of this type.
    #[must_use]
    pub fn creates(&self, kind: ResourceType) -> bool {
        self.operation == Operation::Create && self.resource_type == Some(kind.number())
    }

    /// Returns the Role-IDs that the originator claims (`rids`), in order.
    pub fn claimed_roles(&self) -> impl Iterator<Item = &str> {
        let claims = self.options.iter().filter(|(name, _)| name == ROLE_IDS);
        claims.flat_map(|(_, ids)| ids).map(String::as_str)
    }

    /// Returns whether the originator wants to know where it can request a token if this request is
    /// denied (`tqi`).
    #[must_use]
    pub fn asks_for_token(&self) -> bool {
        let value = self.option(TOKEN_REQUEST).and_then(<[String]>::first);
        value.is_some_and(|value| matches!(value.as_str(), "true" | "1"))
    }

    /// Returns the value of an option: a list, mostly of one element.
    #[must_use]
    pub fn option(&self, name: &str) -> Option<&[String]> {
        self.options.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_slice())
    }
}

/// The option with the claimed roles (Role IDs).
pub const ROLE_IDS: &str = "rids";

/// The option with the Token Request Indicator.
pub const TOKEN_REQUEST: &str = "tqi";

/// Start of the content with Token Request Information.
pub(crate) const TOKEN_REQUEST_INFORMATION: &[u8] = b"{\"m2m:tqf\":";

/// Maximum length of a reason from another CSE in logs, in characters.
const MAX_REASON: usize = 200;

/// A request or response primitive (TS-0004 clause 6.4).
#[derive(Debug, Clone)]
pub enum Primitive {
    /// An m2m:rqp.
    Request(Box<RequestPrimitive>),
    /// An m2m:rsp.
    Response(ResponsePrimitive),
}

/// A response primitive.
#[derive(Debug, Clone)]
pub struct ResponsePrimitive {
    /// Response Status Code.
    pub rsc: Rsc,
    /// From of the responder, if present. The originator checks it; it is not forwarded.
    pub from: Option<String>,
    /// Request Identifier of the request; empty if the request had none.
    pub request_id: String,
    /// Release Version Indicator.
    pub release: Option<String>,
    /// Representation in JSON.
    pub content: Option<Bytes>,
    /// Address of the created resource.
    pub content_location: Option<String>,
    /// Further parameters.
    pub parameters: Parameters,
}

impl ResponsePrimitive {
    /// Creates the response `rsc` to `request`, without content.
    #[must_use]
    pub fn to(request: &RequestPrimitive, rsc: Rsc) -> Self {
        Self {
            rsc,
            from: None,
            request_id: request.request_id.clone(),
            release: request.release.clone(),
            content: None,
            content_location: None,
            parameters: Parameters::default(),
        }
    }

    /// Creates a refusal with its reason, in the debugging information of TS-0004 (`m2m:dbg`).
    #[must_use]
    pub fn refusal(request_id: &str, release: Option<&str>, rsc: Rsc, why: &str) -> Self {
        let body = serde_json::json!({ "m2m:dbg": why });
        Self {
            rsc,
            from: None,
            request_id: request_id.into(),
            release: release.map(Into::into),
            content: Some(body.to_string().into()),
            content_location: None,
            parameters: Parameters::default(),
        }
    }

    /// Replaces the reason of a refusal by Token Request Information: the addresses at which the
    /// originator can request a token (TS-0009 clause 6.4).
    #[must_use]
    pub fn with_token_request(self, addresses: &[String]) -> Self {
        let services = addresses.iter().map(|uri| serde_json::json!({ "uri": uri }));
        let services = services.collect::<Vec<_>>();
        let body = serde_json::json!({"m2m:tqf": {"dasi": services}});
        Self { content: Some(body.to_string().into()), ..self }
    }

    /// Returns the reason of a refusal (`m2m:dbg`), sanitized for logs and terminals.
    #[must_use]
    pub fn reason(&self) -> Option<String> {
        let content = serde_json::from_slice(self.content.as_deref()?).ok()?;
        let content: serde_json::Value = content;
        let why = content.get("m2m:dbg")?.as_str()?;
        Some(why.chars().filter(|c| !c.is_control()).take(MAX_REASON).collect())
    }

    /// Returns the reason of a refusal, or a default text if the CSE gave none.
    #[must_use]
    pub fn reason_or_none(&self) -> String {
        self.reason().unwrap_or_else(|| "the CSE gave no reason".into())
    }
}
