//! Columns four spaces apart.

/// Rows in columns. Cells are trimmed, empty ones show `n/a`, the last column is not padded.
pub fn columns<R: AsRef<[String]>>(rows: &[R]) -> String {
    let cells: Vec<Vec<&str>> =
        rows.iter().map(|row| row.as_ref().iter().map(|cell| shown(cell)).collect()).collect();
    let count = cells.iter().map(Vec::len).max().unwrap_or_default();
    let width = |column: usize| {
        cells
            .iter()
            .filter_map(|row| row.get(column))
            .map(|cell| cell.chars().count())
            .max()
            .unwrap_or_default()
    };
    let widths: Vec<usize> = (0..count).map(width).collect();
    let line = |row: &Vec<&str>| {
        let mut line = String::new();
        for (index, (cell, width)) in row.iter().zip(&widths).enumerate() {
            if index + 1 == row.len() {
                line.push_str(cell);
            } else {
                line.push_str(&format!("{cell:width$}    "));
            }
        }
        line
    };
    cells.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// Columns under headings, each underlined. The first row holds the headings.
pub fn table<R: AsRef<[String]>>(rows: &[R]) -> String {
    let Some((head, body)) = rows.split_first() else { return String::new() };
    let underline = head.as_ref().iter().map(|heading| "-".repeat(heading.len())).collect();
    let mut all = vec![head.as_ref().to_vec(), underline];
    all.extend(body.iter().map(|row| row.as_ref().to_vec()));
    columns(&all)
}

fn shown(cell: &str) -> &str {
    match cell.trim() {
        "" => "n/a",
        trimmed => trimmed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(cells: [&str; 2]) -> Vec<String> {
        cells.map(str::to_owned).to_vec()
    }

    #[test]
    fn cells_line_up_and_empty_ones_say_so() {
        let rows = [row(["Key", "Value"]), row(["token_duration", "∞"]), row(["x", " "])];
        assert_eq!(
            table(&rows),
            "Key               Value\n---               -----\ntoken_duration    ∞\nx                 n/a"
        );
    }
}
