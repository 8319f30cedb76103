//! Which of several rules decides.

use super::*;

/// Rules in short form, and what OpenBao 2.7.2 answered to `sys/capabilities` for each path.
#[test]
fn priority_table() {
    type Case = (&'static [&'static str], &'static [(&'static str, &'static str)]);
    let table: &[Case] = &[
        // Exact paths. The question is asked as for a listing, where the last slash may be missing.
        (
            &["a/b=read"],
            &[
                ("a/b", "read"),
                ("a/b/", "read"),
                ("a", "deny"),
                ("a/", "deny"),
                ("a/b/c", "deny"),
                ("/a/b", "read"),
                ("a//b", "deny"),
                ("A/b", "deny"),
            ],
        ),
        (&["a/b/=read"], &[("a/b", "deny"), ("a/b/", "read"), ("a/b/c", "deny")]),
        (&["/a=read"], &[("a", "read"), ("/a", "read")]),
        (&["=read"], &[("a", "deny"), ("/", "read")]),
        // Prefixes.
        (&["a/*=read"], &[("a", "deny"), ("a/", "read"), ("a/b", "read"), ("a/b/c", "read"), ("ab", "deny")]),
        (&["a*=read"], &[("a", "read"), ("a/", "read"), ("ab", "read"), ("b", "deny")]),
        (&["*=read"], &[("a", "read"), ("/", "read"), ("a/b", "read"), ("sys/x", "read")]),
        (&["a**=read"], &[("a", "deny"), ("ab", "deny"), ("a*", "read"), ("a*b", "read")]),
        (&["a*b=read"], &[("a*b", "read"), ("axb", "deny"), ("a", "deny")]),
        (&["*a=read"], &[("*a", "read"), ("ba", "deny"), ("a", "deny")]),
        // Segments.
        (
            &["a/+=read"],
            &[
                ("a", "deny"),
                ("a/", "read"),
                ("a/b", "read"),
                ("a/b/", "read"),
                ("a/b/c", "deny"),
                ("a//", "read"),
            ],
        ),
        (
            &["a/+/c=read"],
            &[("a/b/c", "read"), ("a//c", "read"), ("a/b/c/", "read"), ("a/b/c/d", "deny"), ("a/b", "deny")],
        ),
        (
            &["a/+/c/*=read"],
            &[("a/b/c", "deny"), ("a/b/c/", "read"), ("a/b/c/d", "read"), ("a/b/c/d/e", "read")],
        ),
        (&["a/+/c*=read"], &[("a/b/c", "read"), ("a/b/cd", "read"), ("a/b/c/d", "read"), ("a/b/x", "deny")]),
        (&["+/b=read"], &[("a/b", "read"), ("b", "deny"), ("/b", "deny"), ("a/b/", "read")]),
        (&["+=read"], &[("a", "read"), ("a/", "read"), ("a/b", "deny"), ("/", "read")]),
        (&["+/*=read"], &[("a", "deny"), ("a/", "read"), ("a/b", "read"), ("a/b/c", "read")]),
        (&["+/+=read"], &[("a/b", "read"), ("a/", "read"), ("a/b/", "read")]),
        (&["a/+b=read"], &[("a/+b", "read"), ("a/xb", "deny")]),
        (&["a+=read"], &[("a+", "read"), ("ab", "deny")]),
        (&["a/+b/*=read"], &[("a/+b/c", "read"), ("a/xb/c", "deny")]),
        (&["a/+/=read"], &[("a/b", "deny"), ("a/b/", "read")]),
        (&["a/+/*b=read"], &[("a/x/*b", "read"), ("a/x/yb", "deny"), ("a/x/", "deny")]),
        // Which of several decides.
        (
            &["a/b=read", "a/*=update", "a/+=delete", "*=list"],
            &[("a/b", "read"), ("a/c", "delete"), ("a/c/", "update"), ("a/c/d", "update"), ("b", "list")],
        ),
        (&["a/b=read", "a/*=update"], &[("a/b", "read"), ("a/b/", "read")]),
        (&["a/b/=read", "a/b=update"], &[("a/b", "update"), ("a/b/", "read")]),
        (&["a/b*=read", "a/+=delete"], &[("a/bc", "read"), ("a/b", "read"), ("a/c", "delete")]),
        (&["a/*=read", "a/+=delete"], &[("a/b", "delete"), ("a/b/c", "read")]),
        (&["a/*=read", "+/b=delete"], &[("a/b", "read")]),
        (&["a/*=read", "a/+/c=delete"], &[("a/b/c", "delete"), ("a/b/d", "read")]),
        (&["a/b/*=read", "a/+/c=delete"], &[("a/b/c", "read")]),
        (&["a/+/*=read", "a/*=delete"], &[("a/b", "delete"), ("a/b/c", "delete")]),
        (&["a/+/c=read", "a/+/*=delete"], &[("a/b/c", "read"), ("a/b/d", "delete")]),
        (&["a/+/c=read", "+/b/c=delete"], &[("a/b/c", "read")]),
        (&["+/+/c=read", "+/b/+=delete"], &[("a/b/c", "delete")]),
        (&["a/+/+=read", "a/+/c=delete"], &[("a/b/c", "delete")]),
        (&["a/+/+/d=read", "a/+/c/+=delete"], &[("a/b/c/d", "delete")]),
        (&["a/+/c/+=read", "a/+/+/d=delete"], &[("a/b/c/d", "read")]),
        (&["+/b/c*=read", "+/b/*=delete"], &[("a/b/cd", "read"), ("a/b/c/d", "read")]),
        (&["a/+/c*=read", "a/+/cd=delete"], &[("a/b/cd", "delete"), ("a/b/cde", "read")]),
        (&["a/+/*=read", "a/+/+=delete"], &[("a/b/c", "delete")]),
        (&["a/+/*=read", "a/+/+/d=delete"], &[("a/b/c/d", "delete")]),
        (&["a/+/+/*=read", "a/+/c/*=delete"], &[("a/b/c/d", "delete")]),
        (&["a/+/+/d*=read", "a/+/c*=delete"], &[("a/b/c/d", "delete")]),
        (&["a/+/c/d*=read", "a/+/+/d=delete"], &[("a/b/c/d", "delete")]),
        (&["a/+/+/*=read", "a/+/bcd*=delete"], &[("a/x/bcd/e", "delete"), ("a/x/bcde/e", "delete")]),
        (&["a*=read", "+/b=delete"], &[("a/b", "read"), ("ab/b", "read")]),
        (&["*=read", "+/b=delete"], &[("a/b", "delete")]),
        (&["*=read", "+=delete"], &[("a", "delete")]),
        (&["a/+=read", "a/*=update"], &[("a/b", "read"), ("a/b/", "update")]),
        (&["a/+=read", "*=update"], &[("a/b", "read"), ("a/b/", "update")]),
        (&["a/+/=read", "a/*=update"], &[("a/b", "update"), ("a/b/", "read")]),
        (&["a/+b*=read", "a/*=update"], &[("a/+bc", "read"), ("a/b", "update")]),
        (&["a/+b=read", "a/+/=update", "a/+=delete"], &[("a/+b", "read"), ("a/b", "delete")]),
        (&["a/x+y/+=deny", "a/x*=read"], &[("a/x+y/d", "deny"), ("a/xy/d", "read")]),
        // Rules for the same path add up; deny takes all.
        (&["a/b=read", "a/b=update,sudo"], &[("a/b", "read,sudo,update")]),
        (&["a/*=read", "a/*=deny"], &[("a/b", "deny")]),
        (&["a/+/c=read", "a/+/c=deny"], &[("a/b/c", "deny")]),
        (&["a/+/c=deny", "a/+/*=read"], &[("a/b/c", "deny"), ("a/b/d", "read")]),
        (&["a/b=deny", "a/b=read,sudo"], &[("a/b", "deny")]),
        (&["a/*=deny", "a/b=read"], &[("a/b", "read"), ("a/c", "deny")]),
        (&["a/b=read,deny"], &[("a/b", "deny")]),
        (&["a/b="], &[("a/b", "deny")]),
        (&["*=read", "a/b="], &[("a/b", "deny")]),
        (
            &["a/b=create,read,update,patch,delete,list,scan,sudo"],
            &[("a/b", "create,delete,list,patch,read,scan,sudo,update")],
        ),
    ];
    for (rules, answers) in table {
        let acl = short(rules);
        for (path, expected) in *answers {
            assert_eq!(acl.capabilities(path).join(","), *expected, "{path} under {rules:?}");
        }
    }
}
