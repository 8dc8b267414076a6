package command

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
)

// printTable prints rows of cells, with the columns lined up.
func printTable(out io.Writer, rows [][]string) error {
	table := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	for _, row := range rows {
		if _, err := fmt.Fprintln(table, strings.Join(row, "\t")); err != nil {
			return err
		}
	}
	return table.Flush()
}
