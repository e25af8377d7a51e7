"""Names of synthetic patients and staff: diacritics, apostrophes, hyphens, several scripts. No real persons."""

from __future__ import annotations

from typing import Final

# A name comes whole from one row, so that given and family names belong together: (families, female, male) per row.
NAMES: Final[tuple[tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]], ...]] = (
    (
        ("Anderson", "Baker", "Clark", "Foster", "Hughes", "Lee", "Mitchell", "Parker", "Reed", "Sullivan", "Turner"),
        ("Abigail", "Beth", "Claire", "Grace", "Hannah", "Ruth", "Sarah"),
        ("Adam", "Brian", "Carl", "David", "Henry", "Marcus", "Samuel"),
    ),
    (
        ("O'Brien", "O'Neill", "D'Angelo", "Smith-Jones", "St. Clair", "Van der Berg", "McAllister"),
        ("Mary Ann", "Siobhán", "Zoë", "Renée", "Chloë"),
        ("Seán", "Jean-Luc", "John Paul", "André", "Conor"),
    ),
    (
        ("García Márquez", "Núñez", "Peña", "Rodríguez", "Hernández", "Muñoz", "Ibáñez", "Ávila"),
        ("María José", "Sofía", "Inés", "Begoña", "Lucía"),
        ("José", "Ángel", "Iñigo", "Joaquín", "Raúl"),
    ),
    (
        ("Müller", "Größe", "Weiß", "Jäger", "Schröder", "Käfer"),
        ("Jürgena", "Käthe", "Heike", "Gönül"),
        ("Jörg", "Günther", "Björn", "Uwe"),
    ),
    (
        ("Łukasiewicz", "Wójcik", "Dvořáková", "Šťastný", "Žižková", "Đorđević", "Kowalczyk"),
        ("Małgorzata", "Žofie", "Željka", "Agnieszka"),
        ("Paweł", "Jiří", "Đuro", "Łukasz"),
    ),
    (
        ("Nguyễn", "Trần", "Phạm", "Đặng"),
        ("Thị Hương", "Ngọc Ánh", "Mỹ Duyên"),
        ("Văn Đức", "Quốc Bảo", "Hữu Phước"),
    ),
    (
        ("Åström", "Øvergård", "Þórsdóttir", "Häkkinen", "Ælfric"),
        ("Åsa", "Sólveig", "Päivi", "Øydis"),
        ("Søren", "Örjan", "Þór", "Jyrki"),
    ),
    (("Иванова", "Петренко", "Соколов"), ("Ольга", "Наталья"), ("Дмитрий", "Сергей")),
    (("Παπαδοπούλου", "Γεωργίου"), ("Ελένη", "Αθηνά"), ("Νίκος", "Σπύρος")),
    (("山田", "佐藤", "王", "陈"), ("花子", "美咲", "丽"), ("太郎", "健一", "伟")),
    (("김", "박", "이"), ("지영", "민서"), ("민수", "준호")),
    (("حداد", "الخطيب"), ("ليلى", "مريم"), ("يوسف", "خالد")),
    (("Yılmaz", "Şahin", "Çelik", "Öztürk"), ("Ayşe", "İpek", "Gülşen"), ("İbrahim", "Çağrı", "Umut")),
)

PRACTITIONERS: Final[tuple[tuple[str, str, str], ...]] = (
    ("Whitfield", "Eleanor", "MD"),
    ("Castellón", "Raúl", "MD"),
    ("Nakamura", "Emi", "MD"),
    ("Okafor", "Chidi", "DO"),
    ("Lindqvist", "Åsa", "NP"),
    ("Brandt", "Jörg", "PA-C"),
)

LOCATIONS: Final[tuple[tuple[str, str], ...]] = (
    ("Lakeside Family Medicine", "LFM"),
    ("Riverside Clinic", "RVC"),
)

STREETS: Final = (
    "Maple Street",
    "Oak Avenue",
    "Lake Shore Drive",
    "Calle Peña",
    "2nd Street",
    "Elm Court",
    "Prairie Road",
)
CITIES: Final = (("Chicago", "IL", "606"), ("Evanston", "IL", "602"), ("Madison", "WI", "537"), ("Gary", "IN", "464"))

# Code, display and length in minutes of the kinds of visit.
VISIT_TYPES: Final[tuple[tuple[str, str, int], ...]] = (
    ("1004", "Office Visit", 20),
    ("1008", "Follow Up", 15),
    ("1012", "New Patient", 40),
    ("1020", "Physical", 45),
    ("1031", "Immunization", 10),
    ("2150", "Telehealth Visit", 20),
)
