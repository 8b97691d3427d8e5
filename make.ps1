# What the Makefile does, for Windows: Python 3.11 to 3.14, Windows PowerShell 5.1 or PowerShell 7.
#   powershell -ExecutionPolicy Bypass -File make.ps1 run
#   powershell -ExecutionPolicy Bypass -File make.ps1 test -k cache

$ErrorActionPreference = "Stop"
$PSNativeCommandUseErrorActionPreference = $false  # the statuses of programs are read below
Set-Location $PSScriptRoot
$Target = $args | Select-Object -First 1
$Rest = @($args | Select-Object -Skip 1)
$Python = ".venv\Scripts\python.exe"

# `make.ps1 wheels` fills the folder wheels; where it lies, everything is installed from it alone.
$Wheels = @()
if (Test-Path "wheels\*.whl") { $Wheels = "--no-index", "--find-links", "wheels" }

function Invoke-Python {
    & $Python @args
    if ($LASTEXITCODE -ne 0) { exit $LASTEXITCODE }
}

# .venv\unfinished stands from the first step of an installation to its last. Where an earlier call
# was interrupted, .venv is made anew instead of being trusted.
function New-Environment {
    if ((Test-Path $Python) -and -not (Test-Path ".venv\unfinished")) { return }
    $Launcher = Get-Command "py", "python" -ErrorAction SilentlyContinue | Select-Object -First 1
    if ($Launcher) {
        & $Launcher.Source -c "import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 15))"
    }
    if (-not $Launcher -or $LASTEXITCODE -ne 0) {
        Write-Host "Python 3.11 to 3.14 is needed; install it from python.org, then open a new window."
        exit 1
    }
    if (Test-Path ".venv") { Remove-Item ".venv" -Recurse -Force }
    New-Item ".venv" -ItemType Directory | Out-Null
    New-Item ".venv\unfinished" -ItemType File | Out-Null
    & $Launcher.Source -m venv .venv
    if ($LASTEXITCODE -ne 0) { exit $LASTEXITCODE }
}

# Installs packages unless it has done so since pyproject.toml and constraints.txt were changed.
function Install-Packages($Mark, $Packages) {
    New-Environment
    if (Test-Path $Mark) {
        $Made = (Get-Item $Mark).LastWriteTime
        $Newer = Get-Item "pyproject.toml", "constraints.txt" | Where-Object LastWriteTime -gt $Made
        if (-not $Newer) { return }
    }
    New-Item ".venv\unfinished" -ItemType File -Force | Out-Null
    & $Python -m pip --disable-pip-version-check install @Wheels -c constraints.txt -e $Packages
    if ($LASTEXITCODE -ne 0) {
        Write-Host "pip could not get the packages; on a machine without a network, install them from a folder of wheels, as docs/classroom.md says"
        exit 1
    }
    New-Item $Mark -ItemType File -Force | Out-Null
    Remove-Item ".venv\unfinished"
}

function Invoke-Lint {
    Install-Packages ".venv\test-ready" ".[test]"
    Invoke-Python -m ruff check .
    Invoke-Python -m ruff format --check .
    Invoke-Python -m pyright --pythonpath $Python
}

switch ("$Target") {  # of no argument at all, unquoted, not even the default is taken
    "run" {
        Install-Packages ".venv\run-ready" "."
        Invoke-Python main.py @Rest
    }
    "test" {
        Invoke-Lint
        Invoke-Python -m pytest @Rest
    }
    "slow" {
        Install-Packages ".venv\test-ready" ".[test]"
        Invoke-Python -m pytest -m slow @Rest
    }
    "lint" { Invoke-Lint }
    "wheels" {
        New-Environment
        if (Test-Path ".venv\unfinished") { Remove-Item ".venv\unfinished" }
        Invoke-Python -m pip download -d wheels -c constraints.txt . "setuptools>=77"
    }
    default {
        Write-Host "make.ps1 run     set up .venv and run main.py; arguments: make.ps1 run --help"
        Write-Host "make.ps1 test    set up .venv and run lint and tests; one test: make.ps1 test -k cache"
        Write-Host "make.ps1 slow    the minutes-long proofs that make.ps1 test leaves out"
        Write-Host "make.ps1 lint    style and formatting (ruff) and types (pyright) alone"
        Write-Host "make.ps1 wheels  download what run installs into wheels, for machines without a network"
    }
}
