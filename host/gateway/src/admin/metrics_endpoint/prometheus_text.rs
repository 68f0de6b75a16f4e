//! Text format of Prometheus before OpenMetrics, version 0.0.4.

/// Converts the OpenMetrics text format. The samples are the same in both formats, but the names
/// and types of metric families differ.
pub fn from_open_metrics(text: &str) -> String {
    let lines: Vec<_> = text.lines().collect();
    let type_of = |name: &str| {
        lines.iter().find_map(|line| {
            let (family, kind) = line.strip_prefix("# TYPE ")?.split_once(' ')?;
            (family == name).then_some(kind)
        })
    };
    let mut out = String::with_capacity(text.len());
    for line in &lines {
        let described = ["# HELP ", "# TYPE "]
            .into_iter()
            .find_map(|start| Some((start, line.strip_prefix(start)?.split_once(' ')?)));
        match described {
            Some((start, (name, rest))) => {
                let (suffix, kind) = match type_of(name) {
                    Some("counter") => ("_total", "counter"),
                    Some("info") => ("_info", "gauge"),
                    Some("unknown") => ("", "untyped"),
                    Some(kind) => ("", kind),
                    None => ("", rest),
                };
                let rest = if start == "# TYPE " { kind } else { rest };
                out.extend([start, name, suffix, " ", rest, "\n"]);
            }
            None if line.starts_with("# UNIT ") || *line == "# EOF" => {}
            None => out.extend([line, "\n"]),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_are_named_by_their_samples() {
        let open = "# HELP a_b What it is.\n# TYPE a_b counter\na_b_total{x=\"# TYPE y\"} 1\n\
                    # HELP c How long.\n# TYPE c histogram\n# UNIT c seconds\nc_sum 1.0\nc_count 2\n\
                    # HELP v Which.\n# TYPE v info\nv_info{v=\"1\"} 1\n# EOF\n";
        let plain = "# HELP a_b_total What it is.\n# TYPE a_b_total counter\n\
                     a_b_total{x=\"# TYPE y\"} 1\n# HELP c How long.\n# TYPE c histogram\n\
                     c_sum 1.0\nc_count 2\n# HELP v_info Which.\n# TYPE v_info gauge\n\
                     v_info{v=\"1\"} 1\n";
        assert_eq!(from_open_metrics(open), plain);
    }
}
