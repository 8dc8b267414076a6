package authz

import (
	"cmp"
	"fmt"
	"strings"
)

// maxTried is how many rules an Explanation shows as text, beside those that allow
// something. As JSON it has them all.
const maxTried = 20

// String is the explanation for people, in lines.
func (e Explanation) String() string {
	var b strings.Builder
	who := cmp.Or(e.User, "an anonymous caller")
	if len(e.Groups) > 0 {
		who += " (groups: " + strings.Join(e.Groups, ", ") + ")"
	}
	if e.Granted {
		fmt.Fprintf(&b, "allowed to %s\n", who)
	} else {
		fmt.Fprintf(&b, "refused to %s: %s\n", who, e.Answer)
	}
	for _, v := range e.Accesses {
		v.write(&b)
		if v.Action == Push && e.Granted {
			fmt.Fprintf(&b, "  a tag that names something else may move: %s\n", yesNo(e.Overwrite))
		}
	}
	return b.String()
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

func (v *Verdict) write(b *strings.Builder) {
	on := cmp.Or(v.Repository, "the registry as such")
	if v.Reference != "" {
		on += " " + v.Reference
	}
	fmt.Fprintf(b, "%s of %s: %s, since %s\n", v.Action, on, yesNo(v.Granted), v.Because)
	if v.Pattern != "" {
		fmt.Fprintf(b, "  the longest pattern that matches counts: %s\n", v.Pattern)
	}
	if len(v.Lost) > 0 {
		fmt.Fprintf(b, "  shorter ones that match don't: %s\n", strings.Join(v.Lost, ", "))
	}
	left := 0
	for i, t := range v.Tried {
		switch {
		case t.Allows:
			fmt.Fprintf(b, "  %s: allows it\n", t.Rule)
		case i < maxTried:
			fmt.Fprintf(b, "  %s: %s\n", t.Rule, t.Because)
		default:
			left++
		}
	}
	if left > 0 {
		fmt.Fprintf(b, "  and %d rules more that don't allow it\n", left)
	}
}
