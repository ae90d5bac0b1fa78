//! What a verb shows: text for standard output, and notes beside it.

use super::format::printable;

/// The result of a verb for people.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Page {
    /// For standard output: what was asked for. Whole lines.
    pub(super) text: String,
    /// For standard error: what is good to know.
    pub(super) notes: Vec<String>,
}

impl Page {
    /// Adds a line.
    pub(super) fn line(&mut self, line: impl AsRef<str>) {
        self.text.push_str(&printable(line.as_ref()));
        self.text.push('\n');
    }

    /// Adds an empty line, unless at the start.
    pub(super) fn gap(&mut self) {
        if !self.text.is_empty() {
            self.text.push('\n');
        }
    }

    /// Adds a note.
    pub(super) fn note(&mut self, note: impl Into<String>) {
        self.notes.push(note.into());
    }

    /// Adds names and values, the values aligned.
    pub(super) fn fields<const N: usize>(&mut self, fields: [(&str, String); N]) {
        let width = fields.iter().map(|(name, _)| name.len()).max().unwrap_or_default();
        for (name, value) in fields {
            self.line(format!("{name:width$}  {value}"));
        }
    }

    /// Adds a table.
    pub(super) fn table(&mut self, table: Table) {
        let widths: Vec<usize> = (0..table.columns.len())
            .map(|column| table.rows.iter().map(|row| width(&row[column])).max().unwrap_or_default())
            .collect();
        for row in table.rows {
            let cells = row.iter().zip(&widths).zip(&table.columns).map(|((cell, &column), align)| {
                let pad = " ".repeat(column - width(cell));
                match align {
                    Align::Left => format!("{cell}{pad}"),
                    Align::Right => format!("{pad}{cell}"),
                }
            });
            let line = cells.collect::<Vec<_>>().join("  ");
            self.line(line.trim_end());
        }
    }
}

/// How many columns a text takes; all characters count as one.
fn width(text: &str) -> usize {
    text.chars().count()
}

/// Which side a column is aligned to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Align {
    /// Words.
    Left,
    /// Numbers.
    Right,
}

/// Rows of cells in aligned columns.
pub(super) struct Table {
    columns: Vec<Align>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with this first row; a heading that begins with `>` is that of a column aligned to the right.
    pub(super) fn new<const N: usize>(headings: [&str; N]) -> Table {
        let columns = headings.map(|text| if text.starts_with('>') { Align::Right } else { Align::Left });
        Table {
            columns: columns.to_vec(),
            rows: vec![headings.map(|text| text.trim_start_matches('>').to_owned()).to_vec()],
        }
    }

    /// A table without headings.
    pub(super) fn bare<const N: usize>(columns: [Align; N]) -> Table {
        Table { columns: columns.to_vec(), rows: Vec::new() }
    }

    /// Adds a row, as long as the first.
    pub(super) fn row<const N: usize>(&mut self, cells: [String; N]) {
        debug_assert_eq!(N, self.columns.len());
        // Before widths are taken, so that what is shown is what was measured.
        self.rows.push(cells.iter().map(|cell| printable(cell)).collect());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_lines_end_without_spaces() {
        let mut table = Table::new(["SITE", ">SIZE", "NOTE"]);
        table.row(["a".into(), "1 B".into(), String::new()]);
        table.row(["münchen".into(), "10 B".into(), "x\ny".into()]);
        let mut page = Page::default();
        page.table(table);
        assert_eq!(page.text, "SITE     SIZE  NOTE\na         1 B\nmünchen  10 B  x\u{fffd}y\n");
    }
}
