package authz

import "fmt"

// Finding is something that's wrong with a Config, or that hardly is what was
// meant. It is an error, so that a Config may be refused with it.
type Finding struct {
	// Fatal says that New refuses the Config. Default: false, a warning.
	Fatal bool `json:"fatal,omitempty"`

	// Where is the part of the Config, such as "rule 3 (allow pull ** to *)".
	Where string `json:"where"`

	// Problem and Fix are a sentence each, without a full stop.
	Problem string `json:"problem"`
	Fix     string `json:"fix"`
}

// Error returns the finding in one line.
func (f Finding) Error() string { return fmt.Sprintf("%s: %s; %s", f.Where, f.Problem, f.Fix) }

// findings collects what there is to say.
type findings []Finding

func (f *findings) refuse(where, fix, problem string, args ...any) {
	*f = append(*f, Finding{Fatal: true, Where: where, Fix: fix, Problem: fmt.Sprintf(problem, args...)})
}

// at names a rule together with what it says, and with where that is written.
func (r *rule) at() string {
	at := fmt.Sprintf("%s (%s)", r.where, r.text)
	if r.file != "" {
		at += " at " + r.file
	}
	return at
}
