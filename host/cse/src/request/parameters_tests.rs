use super::*;
use crate::testing::request;
use Operation::{Create, Delete, Retrieve, Update};
use OptionError as E;
use ResultContent as R;
use saegis_onem2m::http::read_query;

fn read(operation: Operation, query: &str) -> Result<Options, E> {
    let mut request = request(operation, "/cse", Some("Cx"), None);
    request.options = read_query(query).unwrap();
    Options::read(&request, &Definitions::home())
}

#[test]
fn operation_has_default_result_content() {
    for (operation, query, content) in [
        (Create, "", R::Attributes),
        (Retrieve, "", R::Attributes),
        (Update, "", R::Attributes),
        (Delete, "", R::Nothing),
        (Retrieve, "fu=1", R::Discovered),
        (Create, "rcn=3&rt=3", R::AddressAndAttributes),
        (Update, "rcn=9&rp=60000", R::Modified),
        (Delete, "rcn=1", R::Attributes),
        (Retrieve, "rcn=4&lvl=1", R::AttributesAndChildren),
        (Retrieve, "fu=1&rcn=6", R::References),
        (Delete, "rcn=4", R::AttributesAndChildren),
        (Delete, "rcn=5", R::AttributesAndReferences),
        (Delete, "rcn=6", R::References),
        (Delete, "rcn=8", R::Children),
        (Retrieve, "atrl=rn", R::Attributes),
    ] {
        assert_eq!(read(operation, query).unwrap().content, content, "{query}");
    }
}

#[test]
fn criteria_are_read() {
    let options = read(
        Retrieve,
        "fu=1&ty=2+3&ty=4&lbl=a%2Bb+d&lbl=c&cty=a/b%2Bc&cty=a/d+e&lim=5&ofst=3&lvl=2&drt=2&cra=20261124T093000",
    )
    .unwrap();
    assert!(options.discovery && options.unstructured);
    assert_eq!(options.filter.types, [2, 3, 4]);
    assert_eq!(options.filter.labels, ["a+b", "d", "c"]);
    assert_eq!(options.filter.content_types, ["a/b+c", "a/d+e"]);
    assert_eq!(options.filter.conditions, [Condition::CreatedAfter(1_795_512_600)]);
    assert_eq!((options.limit, options.skip, options.levels), (5, 2, Some(2)));
    let options = read(Retrieve, "fu=1&fo=2&atr=api,N*+rn,a%2Bb&arp=../x/la").unwrap();
    assert!(options.filter.any);
    let wanted =
        |name: &str, value: &str| AttributeMatch { name: name.into(), value: value.into() };
    assert_eq!(options.filter.attributes, [wanted("api", "N*"), wanted("rn", "a+b")]);
    assert_eq!(options.relative.unwrap(), ["..", "x", "la"]);
    // An attribute by its own name (TS-0009 clause 6.2.2.2).
    let options = read(Retrieve, "fu=1&cr=Sam&ty=3&rn=a+b*&aei=Cx&cni=1").unwrap();
    let all = [
        wanted("cr", "Sam"),
        wanted("rn", "a"),
        wanted("rn", "b*"),
        wanted("aei", "Cx"),
        wanted("cni", "1"),
    ];
    assert_eq!(options.filter.attributes, all);
    let options = read(Retrieve, "atrl=rn+ri&atrl=lbl").unwrap();
    assert_eq!(options.attributes.unwrap(), ["rn", "ri", "lbl"]);
    assert_eq!(read(Retrieve, "fu=1&lim=99999999").unwrap().limit, MAX_RESULTS);
}

#[test]
fn invalid_parameter_is_refused() {
    for (operation, query, why) in [
        (Retrieve, "x=1", E::Unknown("x".into())),
        (Retrieve, "fu=1&RN=x", E::Unknown("RN".into())),
        (Retrieve, "fu=1&x.rn=x", E::Unknown("x.rn".into())),
        (Retrieve, "fu=1&c.x=x", E::Unknown("c.x".into())),
        (Retrieve, "fu=1&ct=20261124T093000", E::OwnCriterion("ct", "crb and cra")),
        (Retrieve, "fu=1&cnf=x", E::OwnCriterion("cnf", "cty")),
        (Retrieve, "rcn=x", E::Value("rcn")),
        (Retrieve, "fu=9", E::Value("fu")),
        (Retrieve, "fu=1&drt=3", E::Value("drt")),
        (Retrieve, "fu=1&lim=1+2", E::Value("lim")),
        (Retrieve, "fu=1&crb=20261124T093000+20261124T093000", E::Value("crb")),
        (Retrieve, "fu=1&lim=0", E::Value("lim")),
        (Retrieve, "fu=1&ofst=0", E::Value("ofst")),
        (Retrieve, "fu=1&lvl=-1", E::Value("lvl")),
        (Retrieve, "fu=1&ty=cnt", E::Value("ty")),
        (Retrieve, "fu=1&crb=yesterday", E::Value("crb")),
        (Retrieve, "fu=1&fo=7", E::Value("fo")),
        (Retrieve, "rt=9", E::Value("rt")),
        (Retrieve, "fu=1&atr=api", E::Value("atr")),
        (Retrieve, "fu=1&atr=api,x+apn", E::Value("atr")),
        (Retrieve, "rp=PT1M", E::Value("rp")),
        (Retrieve, "rp=1&rp=2", E::Twice("rp")),
        (Retrieve, "fu=1&arp=", E::Value("arp")),
        (Retrieve, "fu=1&arp=/x", E::Value("arp")),
        (Retrieve, "fu=1&arp=a/./b", E::Value("arp")),
        (Retrieve, "fu=1&arp=a+b", E::Value("arp")),
        (Retrieve, "fu=1&arp=a&arp=b", E::Twice("arp")),
        (Retrieve, "fu=1&atrl=rn", E::Value("atrl")),
        (Retrieve, "rcn=4&atrl=rn", E::Value("atrl")),
        (Retrieve, "atrl=", E::Value("atrl")),
        (Delete, "rcn=1&atrl=rn", E::Value("atrl")),
        (Create, "atrl=rn", E::Value("atrl")),
        (Delete, "rcn=2", E::ResultContent { content: 2, operation: "delete" }),
        (Update, "rcn=4", E::ResultContent { content: 4, operation: "update" }),
        (Create, "rcn=8", E::ResultContent { content: 8, operation: "create" }),
        (Retrieve, "rcn=9", E::ResultContent { content: 9, operation: "retrieve" }),
        (Retrieve, "rcn=1&rcn=1", E::Twice("rcn")),
        (Create, "fu=1", E::Value("fu")),
        (Retrieve, "rcn=0", E::ResultContent { content: 0, operation: "retrieve" }),
        (Retrieve, "rcn=11", E::ResultContent { content: 11, operation: "retrieve" }),
        (Retrieve, "fu=1&rcn=1", E::ResultContent { content: 1, operation: "retrieve" }),
        (Create, "rcn=4", E::ResultContent { content: 4, operation: "create" }),
        (Update, "rcn=2", E::ResultContent { content: 2, operation: "update" }),
        (Delete, "rcn=3", E::ResultContent { content: 3, operation: "delete" }),
        (Retrieve, "rcn=99", E::ResultContent { content: 99, operation: "retrieve" }),
    ] {
        assert_eq!(why.rsc(), Rsc::BadRequest);
        assert_eq!(read(operation, query), Err(why), "{query}");
    }
}

#[test]
fn unsupported_parameter_is_reported() {
    for (operation, query) in [
        (Retrieve, "rt=1"),
        (Retrieve, "rt=2"),
        (Retrieve, "fu=1&c.rn=x"),
        (Retrieve, "fu=1&p.lbl=x"),
        (Retrieve, "cni=1"),
        (Retrieve, "tids=x"),
        (Retrieve, "fu=3"),
        (Retrieve, "fu=1&fo=3"),
        (Retrieve, "fu=1&smf=x"),
        (Retrieve, "fu=1&catr=api,Nx"),
        (Retrieve, "atr=api,Nx"),
        (Retrieve, "arp=x"),
        (Retrieve, "rcn=8&arp=x"),
        (Retrieve, "ty=3"),
        (Retrieve, "rcn=1&lbl=x"),
        (Retrieve, "lim=1"),
        (Delete, "ty=4"),
        (Update, "lbl=x"),
        (Delete, "rcn=4&ty=4"),
        (Delete, "rcn=4&lim=4"),
        (Retrieve, "rcn=10"),
        (Retrieve, "rcn=12"),
    ] {
        let e = read(operation, query).unwrap_err();
        let rsc = if query == "rt=1" {
            Rsc::NonBlockingSynchRequestNotSupported
        } else {
            Rsc::NotImplemented
        };
        assert_eq!(e.rsc(), rsc, "{query} {e}");
    }
    let mut request = request(Retrieve, "/cse", Some("Cx"), None);
    request.parameters.set(Parameter::ExecutionTime, "20261124T093000");
    assert!(matches!(Options::read(&request, &Definitions::home()), Err(E::Unsupported(_))));
}
