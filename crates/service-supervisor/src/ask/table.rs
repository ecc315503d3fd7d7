//! A table as `psql` prints it: aligned, numbers to the right.

use serde::Deserialize;

/// What the query route answers.
#[derive(Debug, Deserialize)]
pub(super) struct Table {
    columns: Vec<String>,
    /// PostgreSQL's names of the columns' types.
    #[serde(default)]
    types: Vec<String>,
    rows: Vec<Vec<Option<String>>>,
    #[serde(default)]
    truncated: bool,
}

/// Types whose values `psql` puts to the right (`column_type_alignment` of its `print.c`), by the names that the
/// client library has for them.
const NUMBERS: [&str; 10] =
    ["INT2", "INT4", "INT8", "FLOAT4", "FLOAT8", "NUMERIC", "OID", "XID", "CID", "MONEY"];

impl Table {
    /// The text. A null is nothing.
    pub(super) fn render(&self) -> String {
        let rows: Vec<Vec<Vec<&str>>> = self.rows.iter().map(|row| cells(row)).collect();
        let widths: Vec<usize> = (0..self.columns.len())
            .map(|at| {
                let lines = rows.iter().filter_map(|row| row.get(at)).flatten();
                lines.map(|line| width(line)).chain([width(&self.columns[at])]).max().unwrap_or(0)
            })
            .collect();
        let mut text = String::new();
        if !self.columns.is_empty() {
            let names = self.columns.iter().zip(&widths).map(|(name, &to)| centred(name, to));
            text += &(names.collect::<Vec<_>>().join("|") + "\n");
            let rules = widths.iter().map(|to| "-".repeat(to + 2));
            text += &(rules.collect::<Vec<_>>().join("+") + "\n");
        }
        for row in &rows {
            self.add_row(&mut text, row, &widths);
        }
        let count = self.rows.len();
        text += &format!("({count} row{})\n", if count == 1 { "" } else { "s" });
        if self.truncated {
            text += "there were more rows\n";
        }
        text + "\n"
    }

    /// A cell of several lines has a `+` behind each but its last.
    fn add_row(&self, text: &mut String, row: &[Vec<&str>], widths: &[usize]) {
        let height = row.iter().map(Vec::len).max().unwrap_or(1);
        for line in 0..height {
            let mut parts = Vec::new();
            for (at, cell) in row.iter().enumerate() {
                let (is_last, goes_on) = (at + 1 == row.len(), line + 1 < cell.len());
                let value = cell.get(line).copied().unwrap_or_default();
                let space = " ".repeat(widths[at].saturating_sub(width(value)));
                let is_over = is_last && line >= cell.len();
                let part = match (self.is_number(at) && !is_over, is_last && !goes_on) {
                    (true, _) => format!(" {space}{value}"),
                    (false, true) => format!(" {value}"),
                    (false, false) => format!(" {value}{space}"),
                };
                let end = match (goes_on, is_last) {
                    (true, _) => "+",
                    (false, false) => " ",
                    (false, true) => "",
                };
                parts.push(part + end);
            }
            *text += &(parts.join("|") + "\n");
        }
    }

    fn is_number(&self, column: usize) -> bool {
        self.types.get(column).is_some_and(|name| NUMBERS.contains(&name.as_str()))
    }
}

fn cells(row: &[Option<String>]) -> Vec<Vec<&str>> {
    row.iter().map(|value| value.as_deref().unwrap_or_default().split('\n').collect()).collect()
}

fn width(text: &str) -> usize {
    text.chars().count()
}

fn centred(name: &str, to: usize) -> String {
    let space = to.saturating_sub(width(name));
    let before = space / 2;
    format!(" {}{name}{} ", " ".repeat(before), " ".repeat(space - before))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_without_rows_says_so() {
        let table =
            Table { columns: Vec::new(), types: Vec::new(), rows: Vec::new(), truncated: false };
        assert_eq!(table.render(), "(0 rows)\n\n");
        let columns = vec!["id".to_owned(), "name".to_owned()];
        assert_eq!(Table { columns, ..table }.render(), " id | name \n----+------\n(0 rows)\n\n");
    }
}
