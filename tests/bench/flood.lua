-- Wrong credentials, others each time and from another address each time: for wrk, with a file of Authorization headers
-- and the number of the line to begin after.
local logins = {}
local number = 0

function init(arguments)
  for line in io.lines(arguments[1]) do
    logins[#logins + 1] = line
  end
  number = tonumber(arguments[2])
end

function request()
  number = number % #logins + 1
  local sender = "10." .. number % 250 .. "." .. math.random(250) .. "." .. math.random(250)
  return wrk.format("GET", nil, { ["Authorization"] = logins[number], ["X-Forwarded-For"] = sender })
end
