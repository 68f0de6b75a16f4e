use saegis_onem2m::parameter::Parameter;
use serde_json::{Value, json};

use crate::testing::{Bench, LIGHT1, LIGHT2, listed, settings};

/// `light1` with `state` and `log`, a container `deep` in `log`, and three instances in `state`.
fn bench() -> Bench {
    let mut bench = Bench::with_lights();
    let make = |path, attributes| {
        assert_eq!(bench.container(LIGHT1, path, attributes).code, 2001);
    };
    make("/cse/light1", json!({"rn": "log", "lbl": ["kept", "room:1"]}));
    make("/cse/light1/log", json!({"rn": "deep", "lbl": ["room:1", "a+b"]}));
    for (name, con) in [("i1", "1"), ("i2", "22"), ("i3", "333")] {
        bench.pass(10);
        let cin = json!({"rn": name, "con": con, "cnf": "text/plain:0"});
        assert_eq!(bench.instance(LIGHT1, "/cse/light1/state", cin).code, 2001);
    }
    bench
}

fn find(bench: &Bench, query: &str) -> Vec<String> {
    let reply = bench.retrieve(LIGHT1, &format!("/cse/light1?fu=1&{query}"));
    assert_eq!(reply.code, 2000, "{query} {}", reply.why());
    reply.found().into_iter().map(|a| a.trim_start_matches("cse/light1/").into()).collect()
}

#[test]
fn discovery_finds_descendants() {
    let bench = bench();
    assert_eq!(
        find(&bench, "drt=1"),
        ["state", "state/i1", "state/i2", "state/i3", "log", "log/deep"]
    );
    assert_eq!(find(&bench, "ty=3"), ["state", "log", "log/deep"]);
    assert_eq!(find(&bench, "ty=3&lvl=1"), ["state", "log"]);
    assert_eq!(find(&bench, "ty=2&ty=4&lvl=2"), ["state/i1", "state/i2", "state/i3"]);
    assert_eq!(find(&bench, "lbl=room:1"), ["log", "log/deep"]);
    assert_eq!(find(&bench, "lbl=kept&lbl=other"), ["log"]);
    assert_eq!(find(&bench, "lbl=other+kept"), ["log"]);
    assert_eq!(find(&bench, "lbl=a%2Bb"), ["log/deep"]);
    assert_eq!(find(&bench, "lbl=a+b"), Vec::<String>::new());
    assert_eq!(find(&bench, "cra=20261124T093020"), ["state/i2", "state/i3"]);
    assert_eq!(find(&bench, "crb=20261124T093020&ty=4"), ["state/i1"]);
    assert_eq!(find(&bench, "ms=20261124T093020&ty=3"), ["state"]);
    assert_eq!(find(&bench, "us=20261124T093020&ty=3"), ["log", "log/deep"]);
    assert_eq!(find(&bench, "sza=2&szb=3"), ["state/i2"]);
    assert_eq!(find(&bench, "stb=2&ty=4"), ["state/i2", "state/i3"]);
    assert_eq!(find(&bench, "exb=20261124T093000"), Vec::<String>::new());
    assert_eq!(find(&bench, "exa=20261124T093000&ty=3&lvl=1"), ["state", "log"]);
    assert_eq!(find(&bench, "cty=text/plain:0&sza=3"), ["state/i3"]);
    assert_eq!(find(&bench, "cty=text/plain&sza=3"), ["state/i3"]);
    assert_eq!(find(&bench, "cty=text/plain:1"), Vec::<String>::new());
}

#[test]
fn addresses_have_the_form_that_is_wanted() {
    let bench = bench();
    let deep = bench.retrieve(LIGHT1, "/cse/light1/log/deep").attributes()["ri"].clone();
    let deep = deep.as_str().unwrap();
    let reply = bench.retrieve(LIGHT1, "/cse/light1/log?fu=1&drt=2");
    assert_eq!(reply.found(), [deep]);
    let reply = bench.retrieve(LIGHT1, "/~/mn-cse-123456/cse/light1/log?fu=1");
    assert_eq!(reply.found(), ["/mn-cse-123456/cse/light1/log/deep"]);
    let reply = bench.retrieve(LIGHT1, "/Clight-AE1/log?fu=1&rcn=6&drt=2");
    assert_eq!(reply.json, json!({"m2m:rrl": {"rrf": [{"nm": "deep", "typ": 3, "val": deep}]}}));
}

#[test]
fn discovery_respects_privileges() {
    let bench = bench();
    let find = |who, path| {
        let reply = bench.retrieve(who, path);
        assert_eq!(reply.code, 2000);
        reply.found().into_iter().map(String::from).collect::<Vec<_>>()
    };
    assert_eq!(find(LIGHT2, "/cse?fu=1"), ["cse/light2", "cse/light2/state"]);
    assert_eq!(find(LIGHT1, "/cse?fu=1&lvl=1"), ["cse/light1"]);
    assert_eq!(find("/in-cse", "/cse?fu=1"), Vec::<String>::new());
    for (who, path) in
        [(LIGHT2, "/cse/light1?fu=1"), ("/in-cse", "/cse/light1?fu=1"), ("Cnobody", "/cse?fu=1")]
    {
        assert_eq!(bench.retrieve(who, path).code, 4103, "{who} {path}");
    }
    assert_eq!(bench.retrieve(LIGHT1, "/cse/light3?fu=1").code, 4004);
    let nested = bench.retrieve(LIGHT2, "/cse?rcn=8");
    assert_eq!(nested.json["m2m:cb"]["m2m:ae"].as_array().unwrap().len(), 1);
}

#[test]
fn results_come_in_parts() {
    let bench = bench();
    let part = |query: &str| {
        let reply = bench.retrieve(LIGHT1, &format!("/cse/light1?fu=1&{query}"));
        let names: Vec<_> =
            reply.found().iter().map(|a| a.rsplit('/').next().unwrap().to_owned()).collect();
        (names.join(" "), listed(&reply.response.parameters))
    };
    let partial = |next: &str| {
        vec![(Parameter::ContentStatus, "1".into()), (Parameter::ContentOffset, next.into())]
    };
    assert_eq!(part("lim=2"), ("state i1".into(), partial("3")));
    assert_eq!(part("lim=2&ofst=3"), ("i2 i3".into(), partial("5")));
    assert_eq!(part("lim=2&ofst=5"), ("log deep".into(), vec![]));
    assert_eq!(part("lim=2&ofst=7"), (String::new(), vec![]));
    assert_eq!(part("lim=1&ty=3&ofst=2"), ("log".into(), partial("3")));
}

#[test]
fn children_come_inside_their_parents() {
    let bench = bench();
    let reply = bench.retrieve(LIGHT1, "/cse/light1?rcn=4");
    let ae = &reply.json["m2m:ae"];
    assert_eq!(ae["api"], "Nlight");
    let names = |list: &Value| {
        let names = list.as_array().unwrap().iter().map(|c| c["rn"].as_str().unwrap().to_owned());
        names.collect::<Vec<_>>().join(" ")
    };
    assert_eq!(names(&ae["m2m:cnt"]), "state log");
    assert_eq!(names(&ae["m2m:cnt"][0]["m2m:cin"]), "i1 i2 i3");
    assert_eq!(names(&ae["m2m:cnt"][1]["m2m:cnt"]), "deep");
    assert_eq!(ae["m2m:cnt"][0]["m2m:cin"][1]["con"], "22");

    let reply = bench.retrieve(LIGHT1, "/cse/light1?rcn=8&lvl=1&lbl=kept");
    assert_eq!(reply.json["m2m:ae"].as_object().unwrap().len(), 1);
    assert_eq!(names(&reply.json["m2m:ae"]["m2m:cnt"]), "log");

    let reply = bench.retrieve(LIGHT1, "/cse/light1?rcn=4&lim=2");
    assert_eq!(names(&reply.json["m2m:ae"]["m2m:cnt"]), "state");
    assert_eq!(
        listed(&reply.response.parameters),
        [(Parameter::ContentStatus, "1".into()), (Parameter::ContentOffset, "2".into())]
    );
}

/// Returns the matching resources and their parents, as addresses below `light1`.
fn inside(bench: &Bench, query: &str) -> (String, Vec<(Parameter, String)>) {
    fn walk(path: &str, resource: &Value, found: &mut Vec<String>) {
        for (root, list) in resource.as_object().unwrap() {
            for child in list.as_array().filter(|_| root.starts_with("m2m:")).into_iter().flatten()
            {
                let path = format!("{path}{}", child["rn"].as_str().unwrap());
                found.push(path.clone());
                walk(&format!("{path}/"), child, found);
            }
        }
    }
    let reply = bench.retrieve(LIGHT1, &format!("/cse/light1?{query}"));
    assert_eq!(reply.code, 2000, "{query} {}", reply.why());
    let mut found = Vec::new();
    walk("", &reply.json["m2m:ae"], &mut found);
    (found.join(" "), listed(&reply.response.parameters))
}

#[test]
fn filtered_retrieve_includes_ancestors() {
    let bench = bench();
    let all = |query: &str| {
        let (found, marks) = inside(&bench, query);
        assert_eq!(marks, [], "{query}");
        found
    };
    for rcn in [4, 8] {
        let all = |query: &str| all(&format!("rcn={rcn}&{query}"));
        assert_eq!(all("ty=4"), "state state/i1 state/i2 state/i3");
        assert_eq!(all("ty=4&sza=3"), "state state/i3");
        assert_eq!(all("lbl=a%2Bb"), "log log/deep");
        assert_eq!(all("lbl=kept"), "log");
        assert_eq!(all("ty=4&lvl=1"), "");
        assert_eq!(all("ty=1"), "");
    }
    // A parent has all its attributes, and the target the requested ones.
    let reply = bench.retrieve(LIGHT1, "/cse/light1?rcn=8&ty=4");
    assert_eq!(reply.json["m2m:ae"].as_object().unwrap().len(), 1);
    assert_eq!(reply.json["m2m:ae"]["m2m:cnt"][0]["cni"], 3);
    assert_eq!(reply.json["m2m:ae"]["m2m:cnt"][0]["m2m:cin"][2]["con"], "333");
    assert_eq!(bench.retrieve(LIGHT1, "/cse/light1?rcn=4&ty=4").json["m2m:ae"]["api"], "Nlight");
}

#[test]
fn nested_children_come_in_parts() {
    let bench = bench();
    let part = |query: &str| inside(&bench, &format!("rcn=8&{query}"));
    let partial = |next: &str| {
        vec![(Parameter::ContentStatus, "1".into()), (Parameter::ContentOffset, next.into())]
    };
    // A branch that does not fit is left to the next part.
    assert_eq!(part("lim=5"), ("state state/i1 state/i2 state/i3".into(), partial("2")));
    assert_eq!(part("lim=4"), ("state state/i1 state/i2 state/i3".into(), partial("2")));
    assert_eq!(part("lim=4&ofst=2"), ("log log/deep".into(), vec![]));
    assert_eq!(part("lim=6"), ("state state/i1 state/i2 state/i3 log log/deep".into(), vec![]));
    // The first branch is cut at the limit.
    assert_eq!(part("lim=3"), ("state state/i1 state/i2".into(), partial("2")));
    assert_eq!(part("lim=1&ofst=2"), ("log".into(), partial("3")));
    assert_eq!(part("lim=1&ofst=3"), (String::new(), vec![]));
    assert_eq!(part("ofst=2&lvl=1"), ("log".into(), vec![]));
    // Only direct children in the response count.
    assert_eq!(part("lbl=room:1&ofst=1"), ("log log/deep".into(), vec![]));
    assert_eq!(part("lbl=room:1&ofst=2"), (String::new(), vec![]));
    let instances =
        |query: &str| bench.retrieve(LIGHT1, &format!("/cse/light1/state?rcn=8&{query}"));
    let reply = instances("lim=2&ofst=2");
    assert_eq!(reply.json["m2m:cnt"]["m2m:cin"].as_array().unwrap().len(), 2);
    assert_eq!(listed(&reply.response.parameters), []);
    let reply = instances("lim=2");
    assert_eq!(reply.json["m2m:cnt"]["m2m:cin"][1]["rn"], "i2");
    assert_eq!(listed(&reply.response.parameters), partial("3"));
}

#[test]
fn children_come_as_references() {
    let bench = bench();
    let reply = bench.retrieve(LIGHT1, "/cse/light1?rcn=5&lvl=1");
    assert_eq!(reply.json["m2m:ae"]["api"], "Nlight");
    assert_eq!(
        reply.json["m2m:ae"]["ch"],
        json!([
            {"nm": "state", "typ": 3, "val": "cse/light1/state"},
            {"nm": "log", "typ": 3, "val": "cse/light1/log"},
        ])
    );
    let reply = bench.retrieve(LIGHT1, "/cse/light1/log?rcn=6");
    assert_eq!(
        reply.json,
        json!({"m2m:rrl": {"rrf": [{"nm": "deep", "typ": 3, "val": "cse/light1/log/deep"}]}})
    );
}

#[test]
fn too_much_is_not_answered() {
    let bench = Bench::with_lights();
    let content = "x".repeat(64 << 10);
    for _ in 0..70 {
        let reply = bench.instance(LIGHT1, "/cse/light1/state", json!({"con": content}));
        assert_eq!(reply.code, 2001);
    }
    let reply = bench.retrieve(LIGHT1, "/cse/light1?rcn=4");
    assert_eq!(reply.code, 5207);
    assert!(reply.why().contains("lim"));
    assert_eq!(bench.retrieve(LIGHT1, "/cse/light1?rcn=4&lim=10").code, 2000);
    assert_eq!(bench.retrieve(LIGHT1, "/cse/light1?fu=1").found().len(), 71);
}

#[test]
fn discovery_is_limited_in_steps() {
    let mut settings = settings();
    settings.limits.max_instances = 30_000;
    let bench = Bench::lights(settings);
    bench.fill(LIGHT1, "/cse/light1/state", 21_000);
    let reply = bench.retrieve(LIGHT1, "/cse/light1?fu=1&cty=none");
    assert_eq!(reply.code, 5207);
    assert_eq!(bench.retrieve(LIGHT1, "/cse/light1?fu=1&ty=3&lvl=1").found().len(), 1);
    // It belongs only to its AE: others do not walk through it.
    assert_eq!(bench.retrieve(LIGHT2, "/cse?fu=1").found().len(), 2);
    let reply = bench.retrieve(LIGHT1, "/cse/light1?fu=1");
    assert_eq!(reply.found().len(), crate::request::parameters::MAX_RESULTS);
    assert_eq!(listed(&reply.response.parameters)[1], (Parameter::ContentOffset, "1001".into()));
}

#[test]
fn attributes_and_alternatives_are_looked_for() {
    let bench = bench();
    assert_eq!(find(&bench, "atr=rn,i2"), ["state/i2"]);
    assert_eq!(find(&bench, "atr=rn,i*&atr=con,3*"), ["state/i3"]);
    assert_eq!(find(&bench, "atr=rn,i1+rn,i3"), ["state/i1", "state/i3"]);
    assert_eq!(find(&bench, "atr=lbl,room:*&ty=3"), ["log", "log/deep"]);
    assert_eq!(find(&bench, "atr=lbl,a%2Bb"), ["log/deep"]);
    assert_eq!(find(&bench, "atr=api,*"), Vec::<String>::new());
    assert_eq!(find(&bench, "fo=2&atr=rn,i1&lbl=kept"), ["state/i1", "log"]);
    assert_eq!(find(&bench, "fo=1&atr=rn,i1&lbl=kept"), Vec::<String>::new());
    assert_eq!(
        find(&bench, "fo=2&ty=4&sza=3&lbl=kept"),
        ["state/i1", "state/i2", "state/i3", "log"]
    );
    assert_eq!(find(&bench, "sts=2&ty=4"), ["state/i1"]);
}

#[test]
fn discovery_applies_relative_path() {
    let bench = bench();
    assert_eq!(find(&bench, "ty=3&arp=la"), ["state/i3"]);
    assert_eq!(find(&bench, "ty=3&arp=ol&drt=1"), ["state/i1"]);
    assert_eq!(find(&bench, "lbl=kept&arp=deep"), ["log/deep"]);
    // Three paths lead to the same resource, which is listed once.
    assert_eq!(find(&bench, "ty=4&arp=.."), ["state"]);
    assert_eq!(find(&bench, "ty=4&arp=../../log/deep"), ["log/deep"]);
    assert_eq!(find(&bench, "ty=4&arp=../i1&lim=1"), ["state/i1"]);
    for nowhere in [
        "nothing",
        "../../../../..",
        "..",
        "../../..",
        "../../light2",
        "la/x",
        "../../light2/state/la",
    ] {
        // The CSEBase and the other light are closed to this originator.
        let found = find(&bench, &format!("lbl=kept&arp={nowhere}"));
        let own = if nowhere == ".." { 1 } else { 0 };
        assert_eq!(found.len(), own, "{nowhere} {found:?}");
    }
}

#[test]
fn retrieve_may_select_attributes() {
    let bench = bench();
    let part = |query: &str| bench.retrieve(LIGHT1, &format!("/cse/light1/log?{query}"));
    assert_eq!(
        part("atrl=rn+lbl").json,
        json!({"m2m:cnt": {"rn": "log", "lbl": ["kept", "room:1"]}})
    );
    assert_eq!(part("atrl=rn&atrl=st&rcn=1").json, json!({"m2m:cnt": {"rn": "log", "st": 0}}));
    // An allowed attribute that is absent.
    assert_eq!(part("atrl=rn+mia").json, json!({"m2m:cnt": {"rn": "log"}}));
    assert_eq!(part("atrl=rn+api").code, 4000);
    assert_eq!(part("atrl=rn&rcn=4").code, 4000);
    assert_eq!(
        bench.retrieve(LIGHT1, "/cse?atrl=csi").json,
        json!({"m2m:cb": {"csi": "/mn-cse-123456"}})
    );
    assert_eq!(
        bench.retrieve(LIGHT1, "/cse/light1/state/la?atrl=con").json,
        json!({"m2m:cin": {"con": "333"}})
    );
    assert_eq!(bench.retrieve(LIGHT2, "/cse/light1/log?atrl=rn").code, 4103);
}

#[test]
fn delete_may_return_deleted_resources() {
    let bench = bench();
    assert_eq!(bench.delete(LIGHT1, "/cse/light1/log?rcn=4&lvl=1").code, 5001);
    assert_eq!(bench.delete(LIGHT2, "/cse/light1/log?rcn=4").code, 4103);
    let reply = bench.delete(LIGHT1, "/cse/light1/log?rcn=4");
    assert_eq!(reply.code, 2002);
    assert_eq!(
        (&reply.json["m2m:cnt"]["rn"], &reply.json["m2m:cnt"]["m2m:cnt"][0]["rn"]),
        (&json!("log"), &json!("deep"))
    );
    let reply = bench.delete(LIGHT1, "/cse/light1/state/la?rcn=5");
    assert_eq!((reply.code, &reply.json["m2m:cin"]["rn"]), (2002, &json!("i3")));
    let reply = bench.delete(LIGHT1, "/cse/light1/state?rcn=6");
    let names: Vec<_> =
        reply.json["m2m:rrl"]["rrf"].as_array().unwrap().iter().map(|r| r["nm"].clone()).collect();
    assert_eq!((reply.code, names), (2002, vec![json!("i1"), json!("i2")]));
    let reply = bench.delete(LIGHT1, "/cse/light1?rcn=8");
    assert_eq!((reply.code, &reply.json), (2002, &json!({"m2m:ae": {}})));
    assert_eq!(bench.retrieve(LIGHT2, "/cse/light1").code, 4004);
    bench.cse().store().assert_consistent();
}

#[test]
fn creation_times_find_the_same_resources_as_a_walk() {
    let mut bench = Bench::with_lights();
    bench.pass(10);
    for n in 0..5 {
        let instance = json!({"rn": format!("n{n}"), "con": n});
        assert_eq!(bench.instance(LIGHT1, "/cse/light1/state", instance).code, 2001);
        bench.pass(1);
    }
    for query in [
        "fu=1&cra=20261124T093011",
        "fu=1&crb=20261124T093012",
        "fu=1&cra=20261124T093010&lim=2&ofst=1",
        "fu=1&cra=20261124T093010&lvl=1",
    ] {
        let indexed = bench.retrieve(LIGHT1, &format!("/cse/light1?{query}"));
        // With one condition, a filter that needs only one visits all resources.
        let walked = bench.retrieve(LIGHT1, &format!("/cse/light1?{query}&fo=2"));
        assert_eq!(indexed.found(), walked.found(), "{query}");
    }
    let found = |query: &str| {
        let reply = bench.retrieve(LIGHT1, &format!("/cse/light1/state?fu=1&{query}"));
        reply.found().len()
    };
    assert_eq!(found("cra=20261124T093011&crb=20261124T093013"), 2);
    assert_eq!(found("cra=20261124T093013&crb=20261124T093011"), 0);
    assert_eq!(found("cra=20261124T093010&ty=4&lim=2"), 2);
    assert_eq!(bench.delete(LIGHT1, "/cse/light1/state/n3").code, 2002);
    assert_eq!(found("cra=20261124T093011"), 3);
    // Others see what they may see.
    let other = bench.retrieve(LIGHT2, "/cse?fu=1&cra=20261124T093011");
    assert!(other.found().is_empty());
    bench.cse().store().assert_consistent();
}
