use tokio::io::duplex;

use super::*;

const OK: &str = "HTTP/1.1 200 OK\r\n";

/// Returns the result of a response that arrives in parts of `part` bytes and then ends.
async fn answer_in(bytes: &str, part: usize) -> Result<Response, String> {
    let (mut near, mut far) = duplex(1 << 20);
    let bytes = bytes.as_bytes().to_vec();
    let sending = tokio::spawn(async move {
        for part in bytes.chunks(part) {
            far.write_all(part).await.unwrap();
            tokio::task::yield_now().await;
        }
    });
    let answer = Reader::new(&mut near).response(20).await;
    sending.await.unwrap();
    answer
}

async fn answer(bytes: &str) -> Result<Response, String> {
    let whole = answer_in(bytes, 1 << 20).await;
    assert_eq!(answer_in(bytes, 1).await, whole, "{bytes}");
    whole
}

#[tokio::test]
async fn content_ends_where_head_says() {
    for (fields, content, is_reusable) in [
        ("Content-Length: 5\r\n\r\nhello", "hello", true),
        ("content-length: 5\r\nContent-Length: 5\r\n\r\nhello", "hello", true),
        ("Content-Length: 5\r\nConnection: a, Close\r\n\r\nhello", "hello", false),
        ("Content-Length: 0\r\n\r\n", "", true),
        ("\r\nhello", "hello", false),
        (
            "Transfer-Encoding: Chunked\r\n\r\n2;a=b\r\nhe\r\n3\r\nllo\r\n0\r\nA: b\r\n\r\n",
            "hello",
            true,
        ),
        ("Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "", true),
    ] {
        let response = answer(&format!("{OK}{fields}")).await.unwrap();
        assert_eq!((&*response.content, response.is_reusable), (content.as_bytes(), is_reusable));
    }
    let response = answer("HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nhi").await.unwrap();
    assert!(!response.is_reusable);
    let response = answer("HTTP/1.1 204 No Content\r\nX-M2M-RSC: 2004\r\n\r\n").await.unwrap();
    assert_eq!((response.status.as_u16(), response.is_reusable), (204, true));
    assert_eq!(response.headers["x-m2m-rsc"], "2004");
    let unchanged = answer("HTTP/1.1 304 Not Modified\r\n\r\n").await.unwrap();
    assert_eq!((&*unchanged.content, unchanged.is_reusable), (b"".as_slice(), true));
    let interim = format!("HTTP/1.1 100 Continue\r\nA: b\r\n\r\n{OK}Content-Length: 1\r\n\r\nx");
    assert_eq!(&*answer(&interim).await.unwrap().content, b"x");
}

#[tokio::test]
async fn bytes_after_response_end_connection() {
    let both = format!("{OK}Content-Length: 1\r\n\r\nx{OK}Content-Length: 1\r\n\r\ny");
    let response = answer_in(&both, 1 << 20).await.unwrap();
    assert_eq!((&*response.content, response.is_reusable), (b"x".as_slice(), false));
}

/// Content that a response without content announces may follow later.
#[tokio::test]
async fn announced_content_of_empty_response_ends_connection() {
    for (status, field, is_reusable) in [
        ("204 No Content", "Content-Length: 0", true),
        ("204 No Content", "Content-Length: 5", false),
        ("204 No Content", "Transfer-Encoding: chunked", false),
        ("304 Not Modified", "Content-Length: 5", false),
    ] {
        let response = answer(&format!("HTTP/1.1 {status}\r\n{field}\r\n\r\n")).await.unwrap();
        assert_eq!((&*response.content, response.is_reusable), (b"".as_slice(), is_reusable));
    }
    let old = "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    assert!(!answer(old).await.unwrap().is_reusable);
}

#[tokio::test]
async fn ambiguous_or_incomplete_response_is_rejected() {
    for (fields, why) in [
        ("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "no valid length"),
        ("Content-Length: 1\r\nContent-Length: 2\r\n\r\nhe", "no valid length"),
        ("Content-Length: +1\r\n\r\nh", "no valid length"),
        ("Content-Length: 1, 1\r\n\r\nh", "no valid length"),
        ("Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", "no valid length"),
        (
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            "no valid length",
        ),
        ("Content-Length: 5\r\n\r\nhe", "incomplete"),
        ("Content-Length: 21\r\n\r\n012345678901234567890", "too large"),
        ("\r\n012345678901234567890", "too large"),
        (
            "Transfer-Encoding: chunked\r\n\r\n14\r\n01234567890123456789\r\n1\r\nx\r\n0\r\n\r\n",
            "too large",
        ),
        ("Transfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\nx", "too large"),
        ("Transfer-Encoding: chunked\r\n\r\n1\r\nxy\r\n0\r\n\r\n", "another length"),
        ("Transfer-Encoding: chunked\r\n\r\nx\r\n", "invalid size"),
        ("Transfer-Encoding: chunked\r\n\r\n1\r\nx", "incomplete"),
        ("Transfer-Encoding: chunked\r\n\r\n0\r\n a\r\n\r\n", "trailers"),
        ("A b: c\r\n\r\n", "invalid"),
        ("A: b\r\n c\r\n\r\n", "invalid"),
    ] {
        let refused = answer(&format!("{OK}{fields}")).await.unwrap_err();
        assert!(refused.contains(why), "{fields:?}: {refused}");
    }
    for (bytes, why) in [
        ("", "incomplete"),
        ("HTTP/2 200\r\n\r\n", "invalid"),
        ("nonsense", "invalid"),
        ("HTTP/1.1 101 Switching\r\n\r\n", "another protocol"),
    ] {
        let refused = answer(bytes).await.unwrap_err();
        assert!(refused.contains(why), "{bytes:?}: {refused}");
    }
    let long = format!("{OK}A: {}", "b".repeat(MAX_HEAD));
    assert!(answer_in(&long, 1 << 20).await.unwrap_err().contains("too large"));
    let long = format!("{OK}Transfer-Encoding: chunked\r\n\r\n1;{}", "b".repeat(MAX_CHUNK_LINE));
    assert!(answer_in(&long, 1 << 20).await.unwrap_err().contains("invalid size"));
}

#[tokio::test]
async fn request_is_written_at_once() {
    let request = |method, content: &'static str| {
        let request = Request::builder().method(method).uri("/~/cse/-?a=b").header("X-M2M-RI", "1");
        String::from_utf8(request_bytes(
            &request.body(Bytes::from_static(content.as_bytes())).unwrap(),
        ))
        .unwrap()
    };
    let head = "/~/cse/-?a=b HTTP/1.1\r\nx-m2m-ri: 1\r\n";
    assert_eq!(request("GET", ""), format!("GET {head}\r\n"));
    assert_eq!(request("DELETE", ""), format!("DELETE {head}\r\n"));
    assert_eq!(request("POST", ""), format!("POST {head}content-length: 0\r\n\r\n"));
    assert_eq!(request("PUT", "hi"), format!("PUT {head}content-length: 2\r\n\r\nhi"));
}

#[tokio::test]
async fn early_response_is_read() {
    let (mut near, mut far) = duplex(64);
    far.write_all(b"HTTP/1.1 413 X\r\nContent-Length: 0\r\n\r\n").await.unwrap();
    let request = Request::post("/").body(Bytes::from(vec![0; 1000])).unwrap();
    let (mut reader, mut writer) = tokio::io::split(&mut near);
    let response = exchange(&request, &mut reader, &mut writer, 20).await.unwrap();
    assert_eq!((response.status.as_u16(), response.is_reusable), (413, false));
    drop(far);
}
