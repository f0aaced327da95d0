-- Asks for another repository each time: for wrk, which calls request() for every request.
local number = 0

function request()
  number = number + 1
  return wrk.format("GET", (wrk.path:gsub("team/app", "team/app" .. number)))
end
