package tenant

import "math/rand/v2"

// app is a client together with the resource that it asks tokens for.
type app struct {
	name, id             string
	resource, resourceID string
	devices              deviceKinds
	cae                  bool // its tokens can last a day
	graph                bool // drawn by graphShare, not among the others
	token                string
	scopes               string

	processing, processingTable string // authenticationProcessingDetails, as either shape writes them
}

type deviceKinds uint8

const (
	onPC deviceKinds = 1 << iota
	onPhone
	byThief // drawn by a theft alone
)

const (
	prt   = "primaryRefreshToken"
	rt    = "refreshToken"
	graph = "00000003-0000-0000-c000-000000000000"
)

// apps are well-known first-party clients, and two of the tenant's own. intuneCheckin and
// those that thieves use first are named below.
var apps = []app{
	{"Microsoft Intune Windows Agent", "fc0f3af4-6835-4174-b806-f7db311fd2f3", "Microsoft Intune Checkin", "26a4ae64-5862-427f-a9b0-044e62572a4f", 0, false, false, prt, "user_impersonation", "", ""},
	{"OfficeHome", "4765445b-32c6-49b0-83e6-1d93765276ca", "OfficeHome", "4765445b-32c6-49b0-83e6-1d93765276ca", onPC, false, false, rt, "openid profile", "", ""},
	{"One Outlook Web", "9199bf20-a13f-4107-85dc-02114787ef48", "Office 365 Exchange Online", "00000002-0000-0ff1-ce00-000000000000", onPC, true, false, rt, "Mail.ReadWrite", "", ""},
	{"Microsoft Authentication Broker", "29d9ed98-a469-4536-ade2-f981bc1d605e", "Device Registration Service", "01cb2876-7ebd-4aa4-9cc9-d28bd4d359a9", onPC, false, false, prt, "adrs_access", "", ""},
	{"Microsoft Office", "d3590ed6-52b3-4102-aeff-aad2292ab01c", "Microsoft Graph", graph, onPC | onPhone, true, true, rt, "User.Read Files.ReadWrite.All", "", ""},
	{"Microsoft Intune Company Portal", "9ba1a5c7-f17a-4de9-a1f1-6178c8d51223", "Microsoft Intune", "0000000a-0000-0000-c000-000000000000", onPC | onPhone, false, false, rt, "user_impersonation", "", ""},
	{"Microsoft Teams", "1fec8e78-bce4-4aaf-ab1b-5451cc387264", "Microsoft Graph", graph, onPC | onPhone, true, true, rt, "User.ReadBasic.All Presence.Read.All", "", ""},
	{"Microsoft Azure CLI", "04b07795-8ddb-461a-bbee-02f9e1bf7b46", "Microsoft Graph", graph, onPC, false, true, rt, "AuditLog.Read.All Directory.AccessAsUser.All", "", ""},
	{"Microsoft Teams", "1fec8e78-bce4-4aaf-ab1b-5451cc387264", "Skype Presence Service", "1e70cd27-4707-4589-8ec5-9bd20c472a46", onPC | onPhone, false, false, rt, "user_impersonation", "", ""},
	{"Microsoft Teams", "1fec8e78-bce4-4aaf-ab1b-5451cc387264", "Microsoft Teams Services", "cc15fd57-2c6c-4117-a88c-83b1d56b4bbe", onPC | onPhone, true, false, prt, "user_impersonation", "", ""},
	{"Microsoft Outlook", "5d661950-3475-41cd-a2c3-d671a3162bc1", "Office 365 Exchange Online", "00000002-0000-0ff1-ce00-000000000000", onPC | onPhone, true, false, prt, "EWS.AccessAsUser.All", "", ""},
	{"OneDrive SyncEngine", "ab9b8c07-8f02-4f72-87fa-80105867a763", "Office 365 SharePoint Online", "00000003-0000-0ff1-ce00-000000000000", onPC | onPhone, true, false, prt, "MyFiles.Write", "", ""},
	{"Microsoft Edge", "ecd6b820-32c2-49b6-98a6-444530e5a77a", "Microsoft Edge Sync", "ecd6b820-32c2-49b6-98a6-444530e5a77a", onPC, false, false, prt, "openid profile", "", ""},
	{"Azure Portal", "c44b4083-3bb0-49c1-b47d-974e53cbdf3c", "Azure Resource Manager", "797f4846-ba00-4fd7-ba43-dac1f8f63013", onPC, false, false, rt, "user_impersonation", "", ""},
	{"Windows 365 Client", "4fb5cc57-dbbc-4cdc-9595-748adff5f414", "Windows 365", "0af06dc6-e4b5-4f28-818e-e78e62d137a5", onPC, false, false, rt, "user_impersonation", "", ""},
	{"Example Field Service", "5b9f2d1e-6c3a-4f0e-9a54-3d2b7c81e6aa", "Microsoft Mobile Application Management", "0a5f63c0-b750-4f38-a71c-4fc0d58b89e2", onPhone, false, false, rt, "user_impersonation", "", ""},
	{"Example Time Sheets", "8e1c7a40-2f7b-4d5c-b6d8-90e3f1a2c4bb", "Example Time Sheets", "8e1c7a40-2f7b-4d5c-b6d8-90e3f1a2c4bb", onPC | onPhone, false, false, rt, "openid profile", "", ""},
	{"Microsoft Intune Portal Extension", "5926fc8e-304e-4f59-8bed-58ca97cc39a4", "Microsoft Intune API", "c161e42e-d4df-4a3d-9b42-e7a3c31f59d4", byThief, false, false, rt, "DeviceManagementConfiguration.ReadWrite.All", "", ""},
}

// The apps that are meant by name.
const (
	intuneCheckin = 0
	officeHome    = 1
	exchange      = 2
	broker        = 3
	graphOffice   = 4
	intune        = 5
	intuneAPI     = 17
)

// ordinary and graphs are the apps of a kind of device, without and with Graph.
var ordinary, graphs = byDevice(false), byDevice(true)

func byDevice(graph bool) (byKind [2][]uint8) {
	for i, a := range apps {
		for kind, mask := range [2]deviceKinds{pc: onPC, phone: onPhone} {
			if a.devices&mask != 0 && a.graph == graph {
				byKind[kind] = append(byKind[kind], uint8(i))
			}
		}
	}
	return byKind
}

// pickApp draws an app of a device.
func pickApp(r *rand.Rand, kind deviceKind) uint8 {
	from := ordinary[kind]
	if r.Float64() < graphShare {
		from = graphs[kind]
	}
	return from[r.IntN(len(from))]
}
