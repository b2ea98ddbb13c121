package disk

// A Quota is how much of a file system one user, group or project may use. What df
// shows as free is of no use to one whose quota is used up.
type Quota struct {
	Of string // "user", "group" or "project"
	Space
}

// Quotas returns the quotas that hold for this process in a directory, as far as it
// may know them: none where there are none, or the system cannot be asked.
func Quotas(dir string) []Quota { return quotas(dir) }
