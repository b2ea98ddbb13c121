package setup_test

// Why we differ from the server of the recordings.
const (
	unknown      = "unknown parameters are ignored, so that newer clients work"
	allWrong     = "all that is wrong is said at once"
	ownWords     = "what is wrong with a calendar event is said so that people understand it"
	otherContent = "the content of the backup is another; package content tests what comes of it"
	noRemotes    = "there are no remotes"
)

// differences are the requests that we answer in another way than the server
// of the recordings, and why.
var differences = map[string]difference{
	"GET /config": {why: noRemotes, text: `{"subdir":"datastore"},{"subdir":"prune"},{"subdir":"sync"},{"subdir":"verify"}`},
	"POST /config/sync id=s&store=nostore": {why: allWrong,
		text: "- 'id': value must be at least 3 characters long\n- 'remote-store': parameter is missing"},
	"POST /config/datastore name=st&path=rel": {why: allWrong,
		text: "- 'name': value must be at least 3 characters long\n- 'path': value does not match the regex pattern"},
	"PUT /config/datastore/store1 gc-schedule=bogus+99":      {why: ownWords, text: `'gc-schedule': read "bogus 99": "bogus" is no day of the week`},
	"POST /config/prune id=prune2&store=store1&schedule=x+y": {why: ownWords, text: `'schedule': read "x y": "x" is no day of the week`},
	"GET /admin/datastore/store1/snapshots?unknown=1":        {why: unknown, status: 200, text: `"backup-id":"g1"`},

	"GET /admin/datastore/store1/catalog?backup-type=host&backup-id=g1&backup-time=1700007200&filepath=/": {
		why: otherContent, status: 400, text: "malformed catalog"},
	"GET /admin/datastore/store1/pxar-file-download?backup-type=host&backup-id=g1&backup-time=1700007200&filepath=L3Jvb3QucHhhci5kaWR4": {
		why: otherContent, status: 400, text: "malformed archive"},
	"GET /admin/datastore/store1/download-decoded?backup-type=host&backup-id=g1&backup-time=1700007200&file-name=etc.conf.blob": {
		why: otherContent, text: "xxxxxxxxxx"},
}
